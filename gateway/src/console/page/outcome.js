// @ts-check
/**
 * One notification that was sent: the answer, and the outcome for each recipient as it turns.
 */

import { kindOf } from "./credential.js";
import { copyOf, date, named, say } from "./elements.js";
import { Away, part } from "./gateway.js";
import { Poll } from "./poll.js";
import { duration, NEEDS, number, plural } from "./words.js";

/** @typedef {import("./gateway.js").Answer} Answer */
/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./gateway.js").Problem} Problem */
/** @typedef {import("./latency.js").SendTimes} SendTimes */
/** @typedef {import("./sent.js").Reporter} Reporter */
/** @typedef {import("./sent.js").Request} Request */

/**
 * What became of it so far.
 * @typedef {object} Outcomes
 * @property {Record<string, number>} counts
 * @property {{user?: string, state: string, reason?: string}[]} recipients
 * @property {boolean} more
 */

/** The first question comes so soon, the others with growing pauses. */
const FIRST_PAUSE_MS = 150;
const LONGEST_PAUSE_MS = 10_000;
const PAUSE_GROWTH = 1.6;

/** So many recipients are shown one by one. */
const MAX_SHOWN = 20;

/** How long a sender waits who cannot ask later. */
const WAIT_MS = 5_000;

/** So long an answer may take beyond that. */
const TIMEOUT_MS = 15_000;

/** Sends it, and follows it to its end. */
export class SentNotification {
  element = copyOf("sent-template");
  /** Its name, once it is accepted. @type {string | null} */
  id = null;
  #request;
  #gateway;
  #sendTimes;
  #reporter;
  #key;
  /** When attempts to send it began. @type {number[]} */
  #begun = [];
  #online = 0;
  #pause = FIRST_PAUSE_MS;
  /** Asks what became of it, while something may still change. @type {Poll | null} */
  #poll = null;
  #isForgotten = false;
  #answer = named(this.element, "sent-answer", HTMLElement);
  #outcomes = named(this.element, "sent-outcomes", HTMLElement);
  #note = named(this.element, "sent-note", HTMLElement);
  #retry = named(this.element, "sent-retry", HTMLButtonElement);
  #withdraw = named(this.element, "sent-withdraw", HTMLButtonElement);

  /**
   * @param {Request} request
   * @param {Gateway} gateway
   * @param {SendTimes} sendTimes
   * @param {Reporter} reporter
   */
  constructor(request, gateway, sendTimes, reporter) {
    this.#request = request;
    this.#gateway = gateway;
    this.#sendTimes = sendTimes;
    this.#reporter = reporter;
    this.#key = request.hasKey ? newKey() : "";
    named(this.element, "sent-target", HTMLElement).textContent = targetText(request.target);
    say(named(this.element, "sent-text", HTMLElement), request.text);
    date(named(this.element, "sent-time", HTMLTimeElement), new Date());
    this.#retry.textContent = this.#key === "" ? "Send again" : "Try again";
    this.#retry.addEventListener("click", () => this.send());
    this.#withdraw.addEventListener("click", () => this.#takeBack());
  }

  /** Sends it; once more under the same key, if it was tried before. */
  async send() {
    this.#show("sending", "sending …", "");
    this.#retry.hidden = true;
    say(this.#note, "");
    const isToken = this.#gateway.hasKeys && kindOf(this.#gateway.credential) === "token";
    // Whoever cannot ask later waits for the outcome; of what goes to everybody there is none.
    const isWaiting = isToken && !isEverybody(this.#request.target);
    const begun = this.#sendTimes.begin();
    this.#begun.push(begun);
    try {
      const answer = await this.#gateway.ask("POST", `/v1/notifications${isWaiting ? `?wait=acked&timeout_ms=${WAIT_MS}` : ""}`, {
        body: this.#request.body,
        headers: this.#key === "" ? {} : { "Idempotency-Key": this.#key },
        timeoutMs: TIMEOUT_MS + (isWaiting ? WAIT_MS : 0),
      });
      const took = performance.now() - begun;
      this.id = answer.problem ? null : answer.body.id;
      this.#sendTimes.end(this.id, this.#begun);
      if (answer.problem) this.#refused(answer.problem);
      else this.#accepted(answer, isWaiting ? null : took);
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      this.#sendTimes.end(null, this.#begun);
      this.#unanswered();
    }
  }

  /** It has arrived, or was acked: the outcome is about to change. */
  hurry() {
    if (!this.#poll) return;
    say(this.#note, "");
    this.#pause = FIRST_PAUSE_MS;
    this.#poll.wake();
  }

  /** It is not listed any more. */
  forget() {
    this.#isForgotten = true;
    this.#poll?.stop();
    this.#poll = null;
    this.element.remove();
  }

  /** @param {Answer} answer @param {number | null} took in milliseconds, if the answer came at once */
  #accepted({ status, body, isReplayed }, took) {
    const { id, recipients, online, rejected, outcomes } = body;
    this.#online = online;
    this.element.dataset.id = id;
    say(named(this.element, "sent-id", HTMLElement), id);
    const everybody = isEverybody(this.#request.target);
    const reach = everybody ? `${number(online)} connected` : `${plural(recipients, "recipient")}, ${number(online)} connected`;
    const replayed = isReplayed ? ", answered before under the same key" : "";
    const time = took === null ? "" : ` in ${duration(took)}`;
    this.#show("final", `${status}${time}: ${reach}${replayed}`, String(status));
    this.#reporter.report(`Accepted: ${reach}.${this.#waits(recipients, everybody)}`, "good");
    if (everybody) return say(this.#note, "It went to those who were connected. It is kept for nobody, so it has no outcome.");
    if (recipients === 0) return say(this.#note, rejected ? "" : "Nobody is subscribed to the topic.");
    this.#show("pending");
    if (outcomes) return this.#settled(outcomes);
    this.#mark({ counts: { pending: recipients }, recipients: [], more: true });
    this.#noteWaiting(recipients);
    if (this.#isForgotten) return;
    this.#poll = new Poll(this.#gateway, () => this.#ask());
    setTimeout(() => this.#poll?.wake(), FIRST_PAUSE_MS);
  }

  /** In few words, why nothing arrives now. @param {number} recipients @param {boolean} everybody */
  #waits(recipients, everybody) {
    if (everybody || recipients <= this.#online || this.#request.isBrief) return "";
    return recipients === 1 ? " It waits until the user connects." : " It waits for those who are not.";
  }

  /** @param {number} pending */
  #noteWaiting(pending) {
    if (pending === 0 || this.#online > 0) return say(this.#note, "");
    if (this.#request.isBrief) say(this.#note, "Nobody is connected, and with a time to live of 0 it does not wait.");
    else if (pending === 1) say(this.#note, "The user is not connected: it waits in the mailbox.");
    else say(this.#note, "Nobody of them is connected: it waits in their mailboxes.");
  }

  async #ask() {
    const { body, problem, status } = await this.#gateway.ask("GET", `/v1/notifications/${part(this.id ?? "")}?limit=${MAX_SHOWN}`);
    if (problem) {
      const isRefused = status === 401 || status === 403;
      const isForgotten = status === 404 || status === 410;
      if (!isRefused && !isForgotten) return LONGEST_PAUSE_MS;
      say(this.#note, isRefused ? NEEDS.outcomes : "The gateway does not remember its outcome any more.");
      // Another credential may do.
      if (!isRefused) this.#end();
      return null;
    }
    this.#mark(body);
    if (body.counts.pending === 0) {
      this.#end();
      return null;
    }
    const pause = this.#pause;
    this.#pause = Math.min(LONGEST_PAUSE_MS, pause * PAUSE_GROWTH);
    return pause;
  }

  /** The outcomes of a sender who waited, and cannot ask again. @param {Outcomes} outcomes */
  #settled(outcomes) {
    this.#mark(outcomes);
    this.#end();
    if ((outcomes.counts.pending ?? 0) === 0) return;
    this.element.dataset.state = "pending";
    say(this.#note, `Pending after ${duration(WAIT_MS)}. What becomes of it later is told to API keys only.`);
  }

  #end() {
    this.#poll?.stop();
    this.#poll = null;
    this.#withdraw.hidden = true;
    this.element.dataset.state = "final";
  }

  /** @param {Outcomes} outcomes */
  #mark({ counts, recipients, more }) {
    const pending = counts.pending ?? 0;
    const shown = more
      ? Object.entries(counts).filter(([, count]) => count > 0).map(([state, count]) => outcome("", state, number(count)))
      : recipients.map(({ user, state, reason }) => outcome(user ?? "", state, reason ?? ""));
    this.#outcomes.replaceChildren(...shown);
    this.#withdraw.hidden = pending === 0 || (this.#gateway.hasKeys && kindOf(this.#gateway.credential) !== "key");
    if (pending === 0) say(this.#note, "");
  }

  async #takeBack() {
    this.#withdraw.disabled = true;
    try {
      const { body, problem } = await this.#gateway.ask("DELETE", `/v1/notifications/${part(this.id ?? "")}?limit=${MAX_SHOWN}`);
      this.hurry();
      if (problem) say(this.#note, problem.status === 403 ? NEEDS.withdraw : problemText(problem));
      else this.#mark(body);
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      say(this.#note, "The gateway does not answer.");
    }
    this.#withdraw.disabled = false;
  }

  /** @param {Problem} problem */
  #refused(problem) {
    const text = problemText(problem);
    const isUnknown = problem.delivered === "unknown";
    const mayRetry = isUnknown || [408, 409, 429, 500, 503, 507].includes(problem.status);
    this.#show(isUnknown ? "unknown" : "refused", text, String(problem.status));
    this.#retry.hidden = !mayRetry;
    const later = problem.retryAfterSeconds ? `Try again in ${problem.retryAfterSeconds} s.` : "";
    const needs = problem.status === 401 || problem.status === 403 ? NEEDS.send : "";
    say(this.#note, isUnknown ? this.#doubt() : needs || later);
    this.#reporter.report(needs === "" ? text : `${text}. ${needs}`, "bad");
    this.#reporter.point(problem);
  }

  #unanswered() {
    this.#show("unknown", "no answer: the connection broke", "");
    this.#retry.hidden = false;
    say(this.#note, this.#doubt());
    this.#reporter.report("No answer: the gateway is away, or the connection broke.", "bad");
  }

  #doubt() {
    const safe = this.#key === "" ? "Sent again without a key it may come twice." : "Trying again is safe: the same key is sent.";
    return `Nobody can tell whether it was accepted. ${safe}`;
  }

  /** @param {string} state @param {string} [answer] @param {string} [status] */
  #show(state, answer, status) {
    this.element.dataset.state = state;
    if (answer !== undefined) this.#answer.textContent = answer;
    if (status !== undefined) this.#answer.dataset.status = status;
  }
}

/** @param {string} user @param {string} state @param {string} detail */
function outcome(user, state, detail) {
  const element = document.createElement("li");
  element.className = "tag outcome";
  Object.assign(element.dataset, { test: "outcome", user, state });
  element.textContent = [user, state, detail].filter(Boolean).join(" ");
  return element;
}

/** @param {Request["target"]} target */
function targetText(target) {
  if ("to" in target) return `to ${target.to.join(", ")}`;
  return target.topic === "*" ? "to everybody" : `to topic ${target.topic}`;
}

/** @param {Request["target"]} target */
function isEverybody(target) {
  return "topic" in target && target.topic === "*";
}

/** @param {Problem} problem */
function problemText({ status, title, detail, field }) {
  const where = field === undefined ? "" : `, ${field}`;
  return `${status} ${title}${where}${detail === "" ? "" : `: ${detail}`}`;
}

/** 128 random bits; `crypto.randomUUID` is missing where the page comes without TLS from another machine. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
