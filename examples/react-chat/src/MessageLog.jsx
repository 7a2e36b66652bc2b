import { useLayoutEffect, useRef } from "react";

/** Nearer to the end than this counts as reading along. */
const END_PIXELS = 80;

/** A conversation, oldest message first. It stays at its end unless somebody has scrolled up to read. */
export function MessageLog({ peer, rows, onTryAgain, onDiscard }) {
  const log = useRef(null);
  const isAtEnd = useRef(true);

  useLayoutEffect(() => {
    const element = log.current;
    const stayAtEnd = () => {
      if (isAtEnd.current) element.scrollTop = element.scrollHeight;
    };
    stayAtEnd();
    // A phone's keyboard, or many lines in the composer, leave less room.
    const observer = new ResizeObserver(stayAtEnd);
    observer.observe(element);
    return () => observer.disconnect();
  }, [rows]);

  const noteScroll = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < END_PIXELS;
  };

  return (
    <div
      ref={log}
      className="log"
      role="log"
      aria-live="polite"
      aria-relevant="additions"
      aria-label={`Messages with ${peer}`}
      tabIndex={0}
      onScroll={noteScroll}
      data-test="log"
    >
      {rows.length === 0 && <p className="hint">Nothing here yet.</p>}
      {rows.map((row) =>
        row.kind === "gap" ? (
          <GapRow key={row.name} gap={row.gap} />
        ) : (
          <MessageRow key={row.name} row={row} onTryAgain={onTryAgain} onDiscard={onDiscard} />
        ),
      )}
    </div>
  );
}

function MessageRow({ row, onTryAgain, onDiscard }) {
  const { id, key, from, isMine, title, text, at, status, reason } = row;
  return (
    <article
      className={`message ${isMine ? "mine" : "theirs"} ${status}`}
      data-test="message"
      data-id={id}
      data-from={from}
      data-status={status}
    >
      <h3 className="spoken">{isMine ? "You" : from || "no sender"}</h3>
      {title && <p className="title" dir="auto">{title}</p>}
      {text && (
        <p className="text" dir="auto" data-test="text">
          {text}
        </p>
      )}
      <footer>
        <time dateTime={at.toISOString()}>{when(at)}</time>
        {isMine && <span className="status" data-test="status">{STATUS[status]}</span>}
      </footer>
      {status === "failed" && (
        <div className="failure">
          <p data-test="reason">{reason}</p>
          {/* One with an id was accepted: nothing is left to try under its key. */}
          {!id && (
            <>
              <button type="button" onClick={() => onTryAgain(key)} data-test="try-again">
                Try again
              </button>
              <button type="button" onClick={() => onDiscard(key)} data-test="discard">
                Discard
              </button>
            </>
          )}
        </div>
      )}
    </article>
  );
}

/** The time of day, and the day if it is another one. */
function when(at) {
  const time = { hour: "2-digit", minute: "2-digit" };
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString([], time) : at.toLocaleString([], { day: "numeric", month: "short", ...time });
}

const STATUS = { sending: "Sending…", accepted: "Sent", seen: "Seen", failed: "Failed" };

/** What will not come, in the place where it would have been. */
function GapRow({ gap: { reason, count, isLoss } }) {
  return (
    <p className={isLoss ? "gap loss" : "gap"} data-test="gap" data-reason={reason} data-loss={isLoss}>
      {MISSING[reason](howMany(count))}
    </p>
  );
}

const MISSING = {
  epoch: () => "Messages may be missing here: the gateway has lost its log.",
  overflow: (messages) => `Missing here, because the mailbox was full: ${messages}.`,
  expired: (messages) => `Expired here, because nobody came in time: ${messages}.`,
  withdrawn: (messages) => `Taken back by the sender: ${messages}.`,
};

const howMany = (count) => (count === undefined ? "some messages" : `${count} message${count === 1 ? "" : "s"}`);
