import { useEffect, useId, useRef, useState } from "react";

import { wrongWithUser } from "./gateway.js";

/** Who wrote, and to whom one may write. */
export function ConversationList({ conversations, unread, open, onOpen }) {
  const [name, setName] = useState("");
  const [problem, setProblem] = useState(null);
  const id = useId();

  // On a phone the list is a strip that scrolls.
  const current = useRef(null);
  useEffect(() => {
    current.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [open]);

  const submit = (event) => {
    event.preventDefault();
    const trimmed = name.trim();
    const wrong = wrongWithUser(trimmed);
    setProblem(wrong);
    if (wrong) return;
    onOpen(trimmed);
    setName("");
  };

  return (
    <nav aria-label="Conversations">
      <form onSubmit={submit} noValidate>
        <label htmlFor={`${id}peer`}>Write to</label>
        <div className="field">
          <input
            id={`${id}peer`}
            data-test="peer"
            value={name}
            onChange={(event) => setName(event.target.value)}
            placeholder="name"
            autoComplete="off"
            autoCapitalize="none"
            spellCheck={false}
            autoFocus={open === null}
            aria-invalid={problem !== null}
          />
          <button type="submit" data-test="open-peer">
            Open
          </button>
        </div>
        {problem && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
      </form>
      <ul>
        {conversations.map(({ peer }) => (
          <li key={peer}>
            <button
              type="button"
              ref={peer === open ? current : undefined}
              aria-current={peer === open ? "true" : undefined}
              onClick={() => onOpen(peer)}
              data-test="conversation"
              data-peer={peer}
              data-unread={unread.get(peer) ?? 0}
            >
              <span className="peer">{peer || "no sender"}</span>
              {unread.get(peer) > 0 && (
                <span className="unread">
                  {unread.get(peer)}
                  <span className="spoken"> unread</span>
                </span>
              )}
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}
