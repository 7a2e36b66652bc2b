// @ts-check
/**
 * How long pushes take.
 *
 * A notification that this page sent is measured by one clock, from just before its POST. Its frame may well come before the answer
 * that tells its id, so what arrives while a POST is under way is kept until the answer names it.
 */

/** So many sends are remembered. */
const MAX_SENDS = 1_000;

/** So many arrivals wait for an answer to name them. */
const MAX_ARRIVALS = 1_000;

/**
 * @typedef {object} Arrival
 * @property {string} id
 * @property {number} at by `performance.now()`
 * @property {(milliseconds: number) => void} tell
 */

/** When the page sent what. */
export class SendTimes {
  /** When the attempts to send it began, by the notification's id, oldest first. @type {Map<string, number[]>} */
  #begun = new Map();
  #underWay = 0;
  /** @type {Arrival[]} */
  #arrivals = [];

  /** Just before a POST. @returns {number} when that was */
  begin() {
    this.#underWay += 1;
    return performance.now();
  }

  /**
   * The POST is over.
   * @param {string | null} id of the notification, if it was accepted
   * @param {number[]} begun when the attempts to send it began
   */
  end(id, begun) {
    this.#underWay -= 1;
    if (id !== null) {
      this.#begun.set(id, begun);
      for (const arrival of this.#arrivals) if (arrival.id === id) tell(arrival, begun);
      for (const oldest of this.#begun.keys()) {
        if (this.#begun.size <= MAX_SENDS) break;
        this.#begun.delete(oldest);
      }
    }
    if (this.#underWay === 0) this.#arrivals = [];
  }

  /**
   * A notification has arrived: `arrival.tell` is called with its latency, now or soon, if this page sent it.
   * @param {Arrival} arrival
   */
  arrived(arrival) {
    const begun = this.#begun.get(arrival.id);
    if (begun) return tell(arrival, begun);
    if (this.#underWay === 0) return;
    this.#arrivals.push(arrival);
    if (this.#arrivals.length > MAX_ARRIVALS) this.#arrivals.shift();
  }
}

/**
 * Counts from the attempt that brought it: the last one that began before it came.
 * @param {Arrival} arrival
 * @param {number[]} begun
 */
function tell({ at, tell }, begun) {
  const start = begun.filter((time) => time <= at).at(-1);
  if (start !== undefined) tell(at - start);
}
