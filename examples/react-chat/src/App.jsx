import { useState } from "react";

import { Chat } from "./Chat.jsx";
import { SignIn } from "./SignIn.jsx";

const SESSION = "chat";

/** Who is signed in on this page, and with what. */
export function App() {
  const [{ user, token, isSignedIn }, setSession] = useState(restore);

  const signIn = (signedIn) => {
    // The name survives a reload of the tab. The token does not: what a page stores, every script that ever runs in it can read.
    // A page with a back end asks that for a new one.
    keep({ user: signedIn.user, hasToken: Boolean(signedIn.token) });
    setSession({ ...signedIn, isSignedIn: true });
  };
  const signOut = () => {
    keep(null);
    setSession({ user, token: "", isSignedIn: false });
  };

  if (!isSignedIn) return <SignIn user={user} onSignIn={signIn} />;
  return <Chat key={user} user={user} tokenText={token} onSignIn={signIn} onSignOut={signOut} />;
}

function restore() {
  const kept = read();
  const asked = new URLSearchParams(location.search).get("user") ?? "";
  return { user: kept?.user ?? asked, token: "", isSignedIn: Boolean(kept?.user) && !kept.hasToken };
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION));
  } catch {
    return null;
  }
}

function keep(session) {
  try {
    if (session) sessionStorage.setItem(SESSION, JSON.stringify(session));
    else sessionStorage.removeItem(SESSION);
  } catch {
    // Without storage one signs in again after a reload.
  }
}
