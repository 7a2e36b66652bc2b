const WORDS = {
  connecting: "Connecting…",
  open: "Connected",
  waiting: "No connection, trying again…",
  paused: "Paused",
  closed: "Closed",
};

/** Whether messages arrive now. */
export function ConnectionState({ connection }) {
  const { state, transport, reason } = connection;
  return (
    <p
      className={`connection ${state}`}
      role="status"
      title={state === "open" ? `by ${transport}` : reason}
      data-test="state"
      data-state={state}
    >
      {WORDS[state]}
    </p>
  );
}
