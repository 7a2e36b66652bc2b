/**
 * Sends a notification, and tries again where that is right: the one retry policy of the page.
 *
 * Whoever sends makes the key, once for each message. With it a request can be repeated as often as it takes, also when nobody
 * knows whether the first one arrived: the gateway accepts one and answers the others as it answered that.
 */

const GIVE_UP_AFTER_MS = 60_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** How much longer than it was asked to wait the gateway may take for its answer. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * In flight already (409), too fast (429), going down or overloaded (503), and what a proxy says while the gateway restarts.
 * Everything else would be refused again.
 */
const PASSING = new Set([408, 409, 429, 502, 503, 504]);

/** It was not accepted, or nobody knows; the message is for people. */
export class SendFailed extends Error {
  name = "SendFailed";
}

/**
 * @param {object} notification the body of the request
 * @param {object} options
 * @param {string} options.url the gateway
 * @param {string} options.key the Idempotency-Key
 * @param {() => Promise<string | undefined>} [options.token]
 * @param {number} options.waitMs how long the gateway shall wait for the outcome before it answers
 * @param {AbortSignal} options.signal ends it, with the signal's reason
 * @returns the answer: `id`, `position`, `rejected`, `outcomes`
 */
export async function send(notification, { url, key, token, waitMs, signal }) {
  // Written once, since the gateway compares what comes under a key byte by byte.
  const body = JSON.stringify(notification);
  const address = `${url}/v1/notifications?wait=acked&timeout_ms=${waitMs}`;
  const giveUpAt = performance.now() + GIVE_UP_AFTER_MS;

  for (let attempt = 1; ; attempt += 1) {
    const { answer, failure, retryAfterMs = 0 } = await post();
    if (answer) return answer;
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempt - 1));
    // The gateway tells everybody the same time: what is added keeps them from coming back as one.
    const pause = retryAfterMs + Math.random() * longest;
    if (performance.now() + pause > giveUpAt) throw new SendFailed(failure);
    await atMost(pause, signal);
  }

  /** One attempt. Throws where another one is of no use. */
  async function post() {
    const credential = await token?.();
    const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
    if (credential) headers.Authorization = `Bearer ${credential}`;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(waitMs + ANSWER_TIMEOUT_MS)]);
    try {
      const response = await fetch(address, { method: "POST", headers, body, signal: limit });
      if (response.ok) return { answer: await response.json() };
      const failure = await describe(response);
      if (!PASSING.has(response.status)) throw new SendFailed(failure);
      return { failure, retryAfterMs: 1_000 * (Number(response.headers.get("Retry-After")) || 0) };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof SendFailed) throw error;
      // No answer, half of one, or too late: it may have been accepted.
      return { failure: "the gateway cannot be reached" };
    }
  }
}

/** What the gateway says is wrong (RFC 9457), or a proxy in front of it, which says less. */
async function describe(response) {
  const problem = await response.json().catch(() => null);
  return problem?.detail || problem?.title || `the gateway answered ${response.status}`;
}

/** Waits so long, or until the network is back. */
export function atMost(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const over = new AbortController();
    const end = (done) => {
      clearTimeout(timer);
      over.abort();
      done();
    };
    const timer = setTimeout(() => end(resolve), milliseconds);
    signal.addEventListener("abort", () => end(() => reject(signal.reason)), { signal: over.signal });
    addEventListener("online", () => end(resolve), { signal: over.signal });
  });
}
