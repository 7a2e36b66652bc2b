// @ts-check
/**
 * Questions that are asked again and again, as long as somebody looks and there is somebody to ask.
 */

import { Away } from "./gateway.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */

/**
 * Calls `work` again and again, never twice at once. What it returns is the pause until the next time, in milliseconds; `null`: not
 * before {@link Poll#wake}, which also comes when the gateway or the credential changed. While the page is hidden or the gateway is
 * away nothing is asked.
 */
export class Poll {
  #gateway;
  #work;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #isWorking = false;
  #isWoken = false;
  #listening = new AbortController();

  /**
   * @param {Gateway} gateway
   * @param {() => Promise<number | null>} work
   */
  constructor(gateway, work) {
    this.#gateway = gateway;
    this.#work = work;
    const { signal } = this.#listening;
    gateway.addEventListener("change", () => this.wake(), { signal });
    document.addEventListener("visibilitychange", () => this.wake(), { signal });
  }

  /** Asks now; after the question that is under way, if there is one. */
  wake() {
    clearTimeout(this.#timer);
    if (this.#isWorking) {
      this.#isWoken = true;
    } else if (!document.hidden && !this.#gateway.isAway && !this.#isStopped) {
      void this.#run();
    }
  }

  /** Asks no more. */
  stop() {
    this.#listening.abort();
    clearTimeout(this.#timer);
  }

  get #isStopped() {
    return this.#listening.signal.aborted;
  }

  async #run() {
    this.#isWorking = true;
    this.#isWoken = false;
    /** @type {number | null} */
    let pause = null;
    try {
      pause = await this.#work();
    } catch (error) {
      // The gateway tells with a `change` when it is back.
      if (!(error instanceof Away)) throw error;
    } finally {
      this.#isWorking = false;
    }
    if (this.#isStopped) return;
    if (this.#isWoken) this.wake();
    else if (pause !== null) this.#timer = setTimeout(() => this.wake(), pause);
  }
}
