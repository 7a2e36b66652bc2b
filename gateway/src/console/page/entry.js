// @ts-check
/**
 * One entry of a pane's log: a notification, a gap, or a remark of the page itself.
 */

import { isBeyond, isSameEpoch } from "/client.js";
import { copyOf, date, named, say } from "./elements.js";
import { duration, gapReason, gapTitle, plural } from "./words.js";

/** @typedef {import("/client.js").Notification} Notification */
/** @typedef {import("/client.js").Gap} Gap */

/**
 * What is to be shown. A notification came at `at` (by `performance.now()`) and `when` (by the clock).
 * @typedef {{kind: "notification", notification: Notification, at: number, when: Date, isAckSent: boolean}} Arrived
 * @typedef {{kind: "gap", gap: Gap, when: Date}} Missing
 * @typedef {{kind: "remark", text: string, tone: "quiet" | "bad", times: number, when: Date}} Remark
 * @typedef {Arrived | Missing | Remark} Item
 */

/** Text beyond it can be scrolled, and therefore has to be reachable by keyboard. */
const SCROLLED_LINES = 8;

/** A notification as it came. */
export class NotificationEntry {
  element = copyOf("notification-template");
  #latency = named(this.element, "entry-latency", HTMLElement);
  #acked = named(this.element, "entry-acked", HTMLElement);
  #ack = named(this.element, "entry-ack", HTMLButtonElement);

  /**
   * @param {Arrived} arrived
   * @param {boolean} isAgain it came before, by the same id
   * @param {() => void} onAck
   */
  constructor({ notification, when, isAckSent }, isAgain, onAck) {
    const { element } = this;
    this.notification = notification;
    const { id, sent_at, from, title, body, data, topic, position, replayed } = notification;
    element.dataset.id = id;
    element.dataset.replayed = String(replayed);
    const sentAt = new Date(sent_at);
    say(named(element, "entry-title", HTMLElement), title ?? (body === undefined ? "No text" : ""));
    date(named(element, "entry-time", HTMLTimeElement), sentAt);
    say(named(element, "entry-body", HTMLElement), body ?? "");
    say(named(element, "entry-from", HTMLElement), from === undefined ? "" : `from ${from}`);
    say(named(element, "entry-topic", HTMLElement), topicText(topic));
    if (data !== undefined) showCode(named(element, "entry-data", HTMLPreElement), JSON.stringify(data, null, 2));
    this.#showFrame();

    const waited = when.getTime() - sentAt.getTime();
    const again = isAgain ? "came again" : "";
    const replay = replayed ? `replayed, waited ${duration(waited)}` : "";
    say(named(element, "entry-replayed", HTMLElement), [replay, again].filter(Boolean).join(", "));
    // By two clocks, until the page knows better. What is negative says only that they differ.
    if (!replayed && waited >= 0) {
      const text = waited < 1 ? "under 1 ms" : `≈ ${duration(Math.round(waited))}`;
      this.#showLatency(text, "clock", "by this machine's clock against the gateway's");
    }

    this.#ack.addEventListener("click", onAck);
    if (position === undefined) this.#showAck("", "none");
    else if (isAckSent) this.ackSent();
    else this.#showAck("pending", "false");
  }

  /** This page sent it and knows how long it took. @param {number} milliseconds */
  measured(milliseconds) {
    if (this.notification.replayed) return;
    this.#showLatency(duration(milliseconds), "send", "from just before this page's POST to the arrival here");
  }

  /** This page has acked it; the gateway has not said so yet. */
  ackSent() {
    this.#showAck("ack sent", "sent");
  }

  /** The gateway says how far everything is final: up to there it is acked. @param {string} position */
  confirm(position) {
    const own = this.notification.position;
    const isCovered = own !== undefined && isSameEpoch(own, position) && !isBeyond(own, position);
    if (this.element.dataset.acked === "sent" && isCovered) this.#showAck("acked", "true");
  }

  get #isAcked() {
    return this.element.dataset.acked === "true";
  }

  get isPending() {
    return this.element.dataset.acked === "false";
  }

  /** It cannot be acked here any more: the connection that it came by is over. */
  left() {
    if (this.isPending) this.#showAck("not acked", "left");
  }

  /** Another copy of it stands in the log now: that one is acked instead. */
  superseded() {
    if (!this.#isAcked) this.#showAck("", "none");
  }

  /** @param {string} text @param {string} measured @param {string} how */
  #showLatency(text, measured, how) {
    this.#latency.replaceChildren(hidden("latency "), text);
    this.#latency.hidden = false;
    this.#latency.dataset.measured = measured;
    this.#latency.title = `Latency of the push, ${how}`;
  }

  /** @param {string} text @param {"true" | "sent" | "false" | "left" | "none"} state */
  #showAck(text, state) {
    this.element.dataset.acked = state;
    say(this.#acked, text);
    this.#ack.hidden = state !== "false";
  }

  /** The frame as it came, without what the client added; only made for those who look. */
  #showFrame() {
    const frame = named(this.element, "entry-frame", HTMLPreElement);
    frame.closest("details")?.addEventListener(
      "toggle",
      () => {
        const { replayed: _, ...rest } = this.notification;
        showCode(frame, JSON.stringify(rest, null, 2));
      },
      { once: true },
    );
  }
}

/** @param {Missing} missing */
export function gapElement({ gap, when }) {
  const element = copyOf("gap-template");
  element.dataset.loss = String(gap.isLoss);
  element.dataset.reason = gap.reason;
  named(element, "entry-title", HTMLElement).textContent = gapTitle(gap);
  named(element, "entry-body", HTMLElement).textContent = gapReason(gap);
  named(element, "entry-range", HTMLElement).textContent = `behind ${gap.after}, up to ${gap.until}`;
  date(named(element, "entry-time", HTMLTimeElement), when);
  return element;
}

/** @param {Remark} remark */
export function remarkElement({ text, tone, times, when }) {
  const element = copyOf("remark-template");
  element.dataset.tone = tone;
  named(element, "entry-body", HTMLElement).textContent = times === 1 ? text : `${text}, ${times} times`;
  date(named(element, "entry-time", HTMLTimeElement), when);
  return element;
}

/**
 * What is read aloud of entries that came together.
 * @param {number} notifications how many of them
 * @param {Item} last
 */
export function announced(notifications, last) {
  if (notifications > 1) return plural(notifications, "notification");
  if (last.kind === "gap") return `${gapTitle(last.gap)}. ${gapReason(last.gap)}`;
  if (last.kind === "remark") return last.text;
  const { from, title, body } = last.notification;
  return [from === undefined ? "Notification" : `From ${from}`, title, body].filter(Boolean).join(": ").slice(0, 200);
}

/** For those who hear the page. @param {string} text */
function hidden(text) {
  const element = document.createElement("span");
  element.className = "hidden";
  element.textContent = text;
  return element;
}

/** @param {string | undefined} topic */
function topicText(topic) {
  if (topic === undefined) return "";
  return topic === "*" ? "to everybody" : `topic ${topic}`;
}

/** @param {HTMLPreElement} element @param {string} text */
function showCode(element, text) {
  element.textContent = text;
  element.hidden = false;
  if (text.split("\n").length > SCROLLED_LINES) element.tabIndex = 0;
}
