import { useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { Composer } from "./Composer.jsx";
import { ConnectionState } from "./ConnectionState.jsx";
import { ConversationList } from "./ConversationList.jsx";
import { MessageLog } from "./MessageLog.jsx";
import { SignIn } from "./SignIn.jsx";
import { conversationsOf, countUnread, lastOfPeer } from "./conversations.js";
import { gatewayUrl } from "./gateway.js";
import { useHistory } from "./useHistory.js";
import { useNotifications } from "./useNotifications.js";
import { useOutbox } from "./useOutbox.js";
import { useReadMarks } from "./useReadMarks.js";

/** One user's conversations. Keyed by the user: another one gets a new component and sees nothing of this one's. */
export function Chat({ user, tokenText, onSignIn, onSignOut }) {
  // Here a token is what was pasted. An application asks its own back end, which knows who is signed in:
  // `async () => (await fetch("/session/notification-token", { method: "POST" })).text()`.
  const token = tokenText ? async () => tokenText : undefined;
  const session = useNotifications({ url: gatewayUrl, user, token });
  const { connection, refusal, connectAgain } = session;
  const isOpen = connection.state === "open";
  const history = useHistory({ url: gatewayUrl, user, token, until: session.start, isOpen });
  const items = useMemo(() => [...history, ...session.items], [history, session.items]);

  const [peer, setPeer] = useState(() => initialPeer(user));
  const { outbox, messages } = useOutbox({ url: gatewayUrl, user, token, items, peer: refusal ? null : peer });

  const conversations = useMemo(() => conversationsOf(items, messages, user, peer), [items, messages, user, peer]);
  const rows = conversations.find((conversation) => conversation.peer === peer)?.rows ?? NO_ROWS;

  const [marks, markRead] = useReadMarks(`chat read ${gatewayUrl} ${user}`);
  const isVisible = useSyncExternalStore(subscribeVisibility, () => document.visibilityState === "visible");
  const lastId = lastOfPeer(rows)?.id;
  useEffect(() => {
    if (isVisible && lastId && marks[peer] !== lastId) markRead(peer, lastId);
  });

  const unread = new Map(conversations.map(({ peer, rows }) => [peer, countUnread(rows, marks[peer])]));
  const unreadInAll = Array.from(unread.values()).reduce((sum, count) => sum + count, 0);

  const open = (opened) => {
    setPeer(opened);
    keepPeer(user, opened);
  };

  if (refusal) {
    // What was written stays here, for when the same user comes back with a better token.
    const signInAgain = (signedIn) => {
      onSignIn(signedIn);
      connectAgain();
    };
    return <SignIn user={user} refusal={refusal} onSignIn={signInAgain} />;
  }
  return (
    <div className="chat">
      <title>{unreadInAll > 0 ? `(${unreadInAll}) Chat – ${user}` : `Chat – ${user}`}</title>
      <header>
        <h1>
          Chat <span className="me" data-test="user">{user}</span>
        </h1>
        <ConnectionState connection={connection} />
        <button type="button" onClick={onSignOut} data-test="sign-out">
          Sign out
        </button>
      </header>
      <ConversationList conversations={conversations} unread={unread} open={peer} onOpen={open} />
      {peer === null ? (
        <main className="nobody">
          <p>Enter a name to write to somebody. Whoever is away gets it later.</p>
        </main>
      ) : (
        <main key={peer}>
          <h2 data-test="open-conversation">{peer || "no sender"}</h2>
          <MessageLog
            peer={peer}
            rows={rows}
            onTryAgain={(key) => outbox.tryAgain(key)}
            onDiscard={(key) => outbox.discard(key)}
          />
          <Composer peer={peer} onSend={(text) => outbox.write(peer, text)} />
        </main>
      )}
    </div>
  );
}

const NO_ROWS = [];
const peerKey = (user) => `chat peer of ${user}`;

/** The address may name one; a reload of the tab comes back to the last. */
function initialPeer(user) {
  try {
    const kept = sessionStorage.getItem(peerKey(user));
    if (kept !== null) return kept;
  } catch {
    // Without storage none is remembered.
  }
  return new URLSearchParams(location.search).get("peer") || null;
}

function keepPeer(user, peer) {
  try {
    sessionStorage.setItem(peerKey(user), peer);
  } catch {
    // As above.
  }
}

function subscribeVisibility(changed) {
  document.addEventListener("visibilitychange", changed);
  return () => document.removeEventListener("visibilitychange", changed);
}
