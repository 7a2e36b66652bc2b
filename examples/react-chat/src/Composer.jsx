import { useId, useRef, useState } from "react";

/** Well below what the gateway takes in one notification (32 KiB), whatever the characters are. */
const MAX_CHARACTERS = 4_000;

/** Writes a message. Also without a connection: the outbox keeps it and tries. */
export function Composer({ peer, onSend }) {
  const [text, setText] = useState("");
  const field = useRef(null);
  const id = useId();
  const isEmpty = text.trim() === "";

  const submit = (event) => {
    event.preventDefault();
    if (isEmpty) return;
    onSend(text.trim());
    setText("");
    field.current.focus();
  };
  const press = (event) => {
    // Enter also ends the choice of a character in input methods: that one sends nothing.
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) submit(event);
  };

  if (peer === "") return <p className="hint">Who sent this gave no name: there is nobody to answer.</p>;
  return (
    <form className="composer" onSubmit={submit}>
      <label htmlFor={id} className="spoken">
        Message to {peer}
      </label>
      <textarea
        id={id}
        ref={field}
        data-test="composer"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={press}
        placeholder={`Message to ${peer}`}
        maxLength={MAX_CHARACTERS}
        rows={1}
        autoFocus
        enterKeyHint="send"
      />
      <button type="submit" className="primary" disabled={isEmpty} data-test="send">
        Send
      </button>
    </form>
  );
}
