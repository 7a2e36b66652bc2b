// @ts-check
/**
 * The gateway as this page knows it: what it says about itself, whether it is there, and how it is asked.
 *
 * The credential lives in this object and in its input field, nowhere else. A gateway that is away is a state, not an error: one
 * question is asked again and again, ever more slowly, and everything else waits for its answer.
 */

import { kindOf } from "./credential.js";

/**
 * @typedef {object} About
 * @property {string} version
 * @property {boolean} open nobody needs a credential
 * @property {string | null} metrics_url
 * @property {string | null} grafana_url
 */

/**
 * A refusal (RFC 9457), or what comes nearest to it.
 * @typedef {object} Problem
 * @property {number} status
 * @property {string} title
 * @property {string} detail
 * @property {string} [field] the part of the request that is wrong
 * @property {string} [delivered] `unknown`: it may have been accepted all the same
 * @property {number} [retryAfterSeconds]
 */

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {any} body the JSON of an answer that is no refusal
 * @property {Problem | null} problem
 * @property {boolean} isReplayed it was answered before, under the same `Idempotency-Key`
 */

/**
 * @typedef {object} Question
 * @property {string} [body] JSON
 * @property {Record<string, string>} [headers]
 * @property {number} [timeoutMs]
 */

/** The gateway did not answer. */
export class Away extends Error {}

const TIMEOUT_MS = 10_000;

/** Pauses between questions to a gateway that is away. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Tells with a `change` when it went or came back, learnt more about itself, or got another credential; with `pause` when it is
 * away and the next question was put off.
 */
export class Gateway extends EventTarget {
  /** @type {About | null} */
  about = null;
  isAway = false;
  /** When the next question is due, by `performance.now()`. */
  nextTryAt = 0;
  #credential = "";
  #pause = FIRST_PAUSE_MS;
  /** Until the next question. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.isAway) void this.#look();
    });
  }

  /** For sending and watching; empty in open mode. */
  get credential() {
    return this.#credential;
  }

  set credential(credential) {
    // What is none fits into no header.
    const usable = kindOf(credential) === "malformed" ? "" : credential;
    if (usable === this.#credential) return;
    this.#credential = usable;
    this.#changed();
  }

  /** Whether credentials are asked for, as far as that is known. */
  get hasKeys() {
    return this.about?.open === false;
  }

  /** Whether it makes sense to ask what only API keys may: anything else would be refused, and counted as such. */
  get answersKeys() {
    return this.about !== null && (!this.hasKeys || kindOf(this.#credential) === "key");
  }

  /** Looks whether it is there: at the beginning, and when something else says that it may not be. */
  async look() {
    if (!this.isAway) await this.#look();
  }

  /**
   * @param {string} method
   * @param {string} path with its parts percent-encoded
   * @param {Question} [question]
   * @returns {Promise<Answer>}
   * @throws {Away}
   */
  async ask(method, path, { body, headers = {}, timeoutMs = TIMEOUT_MS } = {}) {
    const response = await this.#fetch(path, {
      method,
      body: body ?? null,
      headers: {
        ...headers,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(this.#credential === "" ? {} : { Authorization: `Bearer ${this.#credential}` }),
      },
      signal: AbortSignal.timeout(timeoutMs),
    });
    const given = await json(response);
    if (response.ok && given === null) {
      this.#lost();
      throw new Away("what answers is no gateway");
    }
    // A gateway that was started anew may have keys now.
    if (response.status === 401 && !this.hasKeys) void this.look();
    const isReplayed = response.headers.get("Idempotent-Replayed") === "true";
    const problem = response.ok ? null : problemOf(response, given);
    return { status: response.status, body: given, problem, isReplayed };
  }

  /** @param {string} path @param {RequestInit} request */
  async #fetch(path, request) {
    try {
      const response = await fetch(path, { ...request, cache: "no-store", credentials: "omit", redirect: "error" });
      // A proxy whose gateway is gone.
      if (response.status === 502 || response.status === 504) throw new Away(response.statusText);
      return response;
    } catch (error) {
      this.#lost();
      throw new Away(error instanceof Error ? error.message : String(error));
    }
  }

  async #look() {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const response = await this.#fetch("/console/about.json", { signal });
      const about = response.ok ? await json(response) : null;
      if (about === null) return this.#lost();
      const isNews = this.isAway || JSON.stringify(about) !== JSON.stringify(this.about);
      this.about = about;
      this.isAway = false;
      this.#pause = FIRST_PAUSE_MS;
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (isNews) this.#changed();
    } catch (error) {
      if (!(error instanceof Away)) throw error;
    }
  }

  /** It did not answer: from now on one question is asked, with growing pauses, until it does. */
  #lost() {
    const isNew = !this.isAway;
    this.isAway = true;
    // Others that were asked at the same time fail, too.
    if (this.#timer === undefined) {
      this.nextTryAt = performance.now() + this.#pause;
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        // Nobody sees it: the page asks when it is looked at again.
        if (!document.hidden) void this.#look();
      }, this.#pause);
      this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2);
    }
    if (isNew) this.#changed();
    else this.dispatchEvent(new Event("pause"));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** A part of a path. @param {string} name */
export function part(name) {
  return encodeURIComponent(name);
}

/** @param {Response} response @returns {Promise<any>} */
async function json(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** @param {Response} response @param {any} given @returns {Problem} */
function problemOf(response, given) {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  return {
    status: response.status,
    title: given?.title ?? response.statusText,
    detail: given?.detail ?? "",
    ...(typeof given?.field === "string" ? { field: given.field } : {}),
    ...(typeof given?.delivered === "string" ? { delivered: given.delivered } : {}),
    ...(Number.isFinite(seconds) ? { retryAfterSeconds: seconds } : {}),
  };
}
