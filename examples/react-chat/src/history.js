const PAGE = 1_000;

/**
 * What a mailbox still keeps in front of a session: the last notifications that were acked, here or elsewhere.
 *
 * It is for showing only. Nothing in it is acked, and what is not kept any more is not missed.
 *
 * @param {object} options
 * @param {string} options.url the gateway
 * @param {string} options.user
 * @param {() => Promise<string | undefined>} [options.token]
 * @param {string} options.until the position at which the session began
 * @param {AbortSignal} options.signal ends it
 * @returns notifications and gaps as the client gives them, oldest first; `null` if they could not be had now
 */
export async function readHistory({ url, user, token, until, signal }) {
  const history = [];
  let after = "start";
  try {
    for (;;) {
      const credential = await token?.();
      const headers = credential ? { Authorization: `Bearer ${credential}` } : {};
      const address = `${url}/v1/users/${encodeURIComponent(user)}/notifications?after=${after}&limit=${PAGE}`;
      const response = await fetch(address, { headers, signal });
      if (!response.ok) return null;
      const { frames, position, more } = await response.json();
      for (const frame of frames) {
        // From here on it is the session's.
        if (isBehind(frame.position ?? frame.until, until)) return history;
        const isLoss = frame.reason === "epoch" || frame.reason === "overflow";
        history.push(frame.type === "gap" ? { ...frame, isLoss } : { ...frame, replayed: true });
      }
      if (!more) return history;
      after = position;
    }
  } catch {
    // The connection that asked for it is gone as well, and the next one asks again.
    return null;
  }
}

/** Positions are `<epoch>-<number>`, and all that a gateway keeps is of one epoch; a number can be too large for a `Number`. */
const isBehind = (position, until) => numberOf(position) > numberOf(until);
const numberOf = (position) => BigInt(position.slice(position.indexOf("-") + 1));
