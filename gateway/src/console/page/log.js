// @ts-check
/**
 * A pane's log: what arrived, what is missing, what the page did; newest first, bounded.
 */

import { named, say } from "./elements.js";
import { announced, gapElement, NotificationEntry, remarkElement } from "./entry.js";
import { plural } from "./words.js";

/** @typedef {import("/client.js").Notification} Notification */
/** @typedef {import("/client.js").Gap} Gap */
/** @typedef {import("./entry.js").Item} Item */
/** @typedef {import("./latency.js").SendTimes} SendTimes */

/** So many entries are shown. */
const MAX_ENTRIES = 200;

/** Entries that come closer together are drawn together. */
const DRAW_EVERY_MS = 40;

/** A storm shall not be read aloud one by one. */
const ANNOUNCE_EVERY_MS = 3_000;

/** Shows what a pane's client hands it. */
export class Log {
  #list;
  #empty;
  #trimmed;
  #count;
  #clear;
  #announcement;
  #sendTimes;
  #onAck;
  /** Not drawn yet, oldest first. @type {Item[]} */
  #due = [];
  /** @type {Item | null} */
  #last = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #drawTimer;
  #drawnAt = Number.NEGATIVE_INFINITY;
  /** Not read aloud yet: how many notifications, and the last entry. @type {{notifications: number, last: Item} | null} */
  #unheard = null;
  #heardAt = Number.NEGATIVE_INFINITY;
  /** Shown notifications by their elements, and the elements by their ids. @type {Map<Element, NotificationEntry>} */
  #entries = new Map();
  /** @type {Map<string, NotificationEntry>} */
  #byId = new Map();
  #received = 0;
  #isTrimmed = false;

  /**
   * @param {HTMLElement} pane
   * @param {SendTimes} sendTimes
   * @param {(notification: Notification) => void} onAck somebody acks it by hand, and all before it
   */
  constructor(pane, sendTimes, onAck) {
    this.#list = named(pane, "log", HTMLOListElement);
    this.#empty = named(pane, "log-empty", HTMLElement);
    this.#trimmed = named(pane, "log-trimmed", HTMLElement);
    this.#count = named(pane, "log-count", HTMLElement);
    this.#clear = named(pane, "log-clear", HTMLButtonElement);
    this.#announcement = named(pane, "log-announced", HTMLElement);
    this.#sendTimes = sendTimes;
    this.#onAck = onAck;
    this.#clear.addEventListener("click", () => {
      this.clear();
      // The button goes, and focus would go with it.
      this.#empty.focus();
    });
    this.clear();
  }

  /** Whose log it is. @param {string} user */
  set name(user) {
    this.#list.setAttribute("aria-label", `Log of ${user}`);
  }

  /** What stands there while there is nothing else. @param {string} text */
  set placeholder(text) {
    this.#empty.textContent = text;
  }

  /**
   * @param {Notification} notification
   * @param {boolean} isAckSent
   */
  arrived(notification, isAckSent) {
    this.#received += 1;
    this.#add({ kind: "notification", notification, isAckSent, at: performance.now(), when: new Date() });
  }

  /** @param {Gap} gap */
  missing(gap) {
    this.#add({ kind: "gap", gap, when: new Date() });
  }

  /**
   * @param {string} text
   * @param {"quiet" | "bad"} [tone]
   */
  remark(text, tone = "quiet") {
    const last = this.#last;
    const when = new Date();
    // What happens again and again is told once, and counted.
    if (last?.kind === "remark" && last.text === text) {
      last.times += 1;
      last.when = when;
      if (!this.#due.includes(last)) this.#list.firstElementChild?.replaceWith(remarkElement(last));
      return;
    }
    this.#add({ kind: "remark", text, tone, times: 1, when });
  }

  /** The gateway has everything up to here as final. @param {string} position */
  confirm(position) {
    for (const entry of this.#entries.values()) entry.confirm(position);
  }

  /** What is pending cannot be acked any more: the connection is over, or positions mean something else now. */
  leavePending() {
    // What was not drawn yet is pending, too.
    if (this.#due.length > 0) this.#draw();
    for (const entry of this.#entries.values()) entry.left();
  }

  clear() {
    this.#due = [];
    this.#last = null;
    this.#entries.clear();
    this.#byId.clear();
    this.#received = 0;
    this.#isTrimmed = false;
    this.#list.replaceChildren();
    this.#update();
  }

  /** @param {Item} item */
  #add(item) {
    this.#last = item;
    this.#due.push(item);
    // More could not be seen; those who are not drawn are counted all the same.
    if (this.#due.length > MAX_ENTRIES) this.#due.shift();
    this.#announceSoon(item);
    if (this.#drawTimer !== undefined) return;
    const pause = Math.max(0, this.#drawnAt + DRAW_EVERY_MS - performance.now());
    // The first of a burst at once, the others together.
    if (pause === 0) this.#draw();
    else this.#drawTimer = setTimeout(() => this.#draw(), pause);
  }

  #draw() {
    clearTimeout(this.#drawTimer);
    this.#drawTimer = undefined;
    this.#drawnAt = performance.now();
    const items = this.#due;
    this.#due = [];
    for (const item of items) this.#list.prepend(this.#elementOf(item));
    while (this.#list.childElementCount > MAX_ENTRIES) this.#forget(this.#list.lastElementChild);
    this.#update();
  }

  /** @param {Item} item @returns {HTMLElement} */
  #elementOf(item) {
    if (item.kind === "gap") return gapElement(item);
    if (item.kind === "remark") return remarkElement(item);
    const { notification, at } = item;
    const before = this.#byId.get(notification.id);
    before?.superseded();
    const entry = new NotificationEntry(item, before !== undefined, () => this.#ack(entry));
    this.#entries.set(entry.element, entry);
    this.#byId.set(notification.id, entry);
    this.#sendTimes.arrived({ id: notification.id, at, tell: (milliseconds) => entry.measured(milliseconds) });
    return entry.element;
  }

  /** @param {Element | null} element */
  #forget(element) {
    if (!element) return;
    const entry = this.#entries.get(element);
    if (entry && this.#byId.get(entry.notification.id) === entry) this.#byId.delete(entry.notification.id);
    this.#entries.delete(element);
    element.remove();
    this.#isTrimmed = true;
  }

  /** By hand: it and all that came before it. @param {NotificationEntry} acked */
  #ack(acked) {
    this.#onAck(acked.notification);
    // Its button goes, and focus would go with it.
    this.#list.focus({ preventScroll: true });
    /** @type {Element | null} */
    let element = acked.element;
    for (; element; element = element.nextElementSibling) {
      const entry = this.#entries.get(element);
      if (entry?.isPending) entry.ackSent();
    }
  }

  #update() {
    const isEmpty = this.#list.childElementCount === 0;
    this.#empty.hidden = !isEmpty;
    this.#list.hidden = isEmpty;
    this.#clear.hidden = isEmpty;
    this.#count.textContent = this.#received === 0 ? "" : `${plural(this.#received, "notification")} received`;
    say(this.#trimmed, this.#isTrimmed ? `Only the last ${MAX_ENTRIES} entries are shown.` : "");
  }

  /** @param {Item} item */
  #announceSoon(item) {
    const pause = Math.max(0, this.#heardAt + ANNOUNCE_EVERY_MS - performance.now());
    if (this.#unheard === null) setTimeout(() => this.#announce(), pause);
    const before = this.#unheard?.notifications ?? 0;
    this.#unheard = { notifications: before + (item.kind === "notification" ? 1 : 0), last: item };
  }

  #announce() {
    if (this.#unheard) this.#announcement.textContent = announced(this.#unheard.notifications, this.#unheard.last);
    this.#unheard = null;
    this.#heardAt = performance.now();
  }
}
