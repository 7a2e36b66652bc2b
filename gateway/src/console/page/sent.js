// @ts-check
/**
 * What was sent from this page, newest first, each with its answer and what became of it.
 */

import { byId } from "./elements.js";
import { SentNotification } from "./outcome.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./gateway.js").Problem} Problem */
/** @typedef {import("./latency.js").SendTimes} SendTimes */

/**
 * What is to be sent.
 * @typedef {object} Request
 * @property {{to: string[]} | {topic: string}} target
 * @property {string} text to know it again by
 * @property {boolean} isBrief its time to live is 0: it waits for nobody
 * @property {boolean} hasKey it gets an `Idempotency-Key`
 * @property {string} body JSON
 */

/**
 * Who is told how a send went.
 * @typedef {object} Reporter
 * @property {(text: string, tone: "good" | "bad" | "quiet") => void} report
 * @property {(problem: Problem) => void} point
 */

/** So many are listed; older ones are asked about no more. */
const MAX_SENT = 50;

/** The list. */
export class SentList {
  #gateway;
  #sendTimes;
  /** Newest first. @type {SentNotification[]} */
  #sent = [];
  #list = byId("sent-list", HTMLOListElement);
  #empty = byId("sent-empty", HTMLElement);

  /**
   * @param {Gateway} gateway
   * @param {SendTimes} sendTimes
   */
  constructor(gateway, sendTimes) {
    this.#gateway = gateway;
    this.#sendTimes = sendTimes;
    this.#list.hidden = true;
  }

  /**
   * @param {Request} request
   * @param {Reporter} reporter
   */
  send(request, reporter) {
    const sent = new SentNotification(request, this.#gateway, this.#sendTimes, reporter);
    this.#empty.hidden = true;
    this.#list.hidden = false;
    this.#list.prepend(sent.element);
    this.#sent.unshift(sent);
    for (const old of this.#sent.splice(MAX_SENT)) old.forget();
    void sent.send();
  }

  /** A notification came to one of the panes, or was acked there: its outcome is about to change. @param {string} id */
  hurry(id) {
    this.#sent.find((sent) => sent.id === id)?.hurry();
  }
}
