import { useId, useState } from "react";

import { gatewayUrl, wrongWithUser } from "./gateway.js";

/** Asks who is there. `refusal`: why the gateway did not want what was entered before. */
export function SignIn({ user = "", refusal = null, onSignIn }) {
  const [name, setName] = useState(user);
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(null);
  const id = useId();

  const submit = (event) => {
    event.preventDefault();
    const trimmed = name.trim();
    const wrong = wrongWithUser(trimmed);
    setProblem(wrong);
    if (!wrong) onSignIn({ user: trimmed, token: token.trim() });
  };
  const shown = problem ?? (refusal && explain(refusal));

  return (
    <main className="sign-in">
      <form onSubmit={submit} noValidate>
        <h1>Chat</h1>
        {shown && (
          <p className="problem" role="alert" data-test="sign-in-problem" data-code={refusal?.code}>
            {shown}
          </p>
        )}
        <label htmlFor={`${id}name`}>Your name</label>
        <input
          id={`${id}name`}
          data-test="name"
          value={name}
          onChange={(event) => setName(event.target.value)}
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus={user === ""}
          aria-invalid={problem !== null}
        />
        <label htmlFor={`${id}token`}>
          Token <span className="hint">only where the gateway has keys</span>
        </label>
        <input
          id={`${id}token`}
          data-test="token"
          type="password"
          value={token}
          onChange={(event) => setToken(event.target.value)}
          autoComplete="off"
          spellCheck={false}
          autoFocus={user !== ""}
        />
        <button type="submit" className="primary" data-test="sign-in">
          Sign in
        </button>
        <p className="hint">
          Gateway: <span data-test="gateway">{gatewayUrl}</span>
        </p>
      </form>
    </main>
  );
}

/** The close codes that mean: do not come back. */
function explain({ code, reason }) {
  const meaning = {
    4001: "The gateway did not accept the token: it is missing, wrong, or over.",
    4003: "The gateway does not let this page in: the token is another user's, or the page's origin is not among its allowed origins.",
    4009: "There are too many sessions of this user: another one took the place of this.",
    4010: "An administrator disconnected this user.",
  };
  return `${meaning[code] ?? "The gateway refused the connection."} (${[code, reason].filter(Boolean).join(" ")})`;
}
