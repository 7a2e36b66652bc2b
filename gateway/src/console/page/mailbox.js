// @ts-check
/**
 * What the gateway holds for a pane's user: how much waits, how many sessions are open, which topics are subscribed.
 */

import { named, say } from "./elements.js";
import { part } from "./gateway.js";
import { Plot } from "./plot.js";
import { Poll } from "./poll.js";
import { Topics } from "./topics.js";
import { nameProblem, NEEDS, number } from "./words.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */

const EVERY_MS = 1_000;

/** Topics change by hand, and seldom: they are asked for with every so many looks. */
const LOOKS_FOR_TOPICS = 5;

/** Looks at one user's mailbox each second. */
export class Mailbox {
  /** How much waits; `null` if that is not known. @type {number | null} */
  pending = null;
  #gateway;
  #user = "";
  #onChange;
  #onAcked;
  /** Until topics are asked for. */
  #looksLeft = 0;
  #notice;
  #numbers;
  #pendingText;
  #sessions;
  #plot = new Plot("Pending");
  #topics;
  #poll;

  /**
   * @param {HTMLElement} pane
   * @param {Gateway} gateway
   * @param {() => void} onChange `pending` is another
   * @param {(position: string) => void} onAcked everything up to there is final
   */
  constructor(pane, gateway, onChange, onAcked) {
    this.#gateway = gateway;
    this.#onChange = onChange;
    this.#onAcked = onAcked;
    this.#notice = named(pane, "mailbox-notice", HTMLElement);
    this.#numbers = [named(pane, "mailbox-numbers", HTMLElement), named(pane, "mailbox-plot", HTMLElement)];
    this.#pendingText = named(pane, "pane-pending", HTMLElement);
    this.#sessions = named(pane, "pane-sessions", HTMLElement);
    named(pane, "mailbox-plot", HTMLElement).append(this.#plot.element);
    this.#topics = new Topics(pane, gateway, () => this.#lookAgain());
    this.#poll = new Poll(gateway, () => this.#look());
  }

  /** Whose mailbox it is from now on. @param {string} user */
  set user(user) {
    if (user === this.#user) return;
    this.#user = user;
    this.#plot.clear();
    this.#forget();
    this.#topics.user = user;
    this.#lookAgain();
  }

  /** Looks now, since something has changed. */
  hurry() {
    this.#poll.wake();
  }

  stop() {
    this.#poll.stop();
  }

  #lookAgain() {
    this.#looksLeft = 0;
    this.#poll.wake();
  }

  async #look() {
    const user = this.#user;
    if (nameProblem(user) !== "") return null;
    if (!this.#gateway.answersKeys) return this.#refused();
    // Before anything is waited for: meanwhile somebody may want to look again.
    const isForTopics = this.#looksLeft <= 0;
    this.#looksLeft = isForTopics ? LOOKS_FOR_TOPICS : this.#looksLeft - 1;
    const { body, problem } = await this.#gateway.ask("GET", `/v1/users/${part(user)}`);
    // Meanwhile it may be another's.
    if (user !== this.#user) return EVERY_MS;
    if (problem) return problem.status === 401 || problem.status === 403 ? this.#refused() : EVERY_MS;
    this.#show(body);
    if (isForTopics) await this.#lookForTopics(user);
    return EVERY_MS;
  }

  /** @param {string} user */
  async #lookForTopics(user) {
    const { body, problem } = await this.#gateway.ask("GET", `/v1/users/${part(user)}/topics`);
    if (!problem && user === this.#user) this.#topics.show(body.topics);
  }

  /** @param {{pending: number, sessions: number, acked?: string}} user */
  #show({ pending, sessions, acked }) {
    if (acked !== undefined) this.#onAcked(acked);
    say(this.#notice, "");
    for (const element of this.#numbers) element.hidden = false;
    this.#topics.isShown = true;
    this.#pendingText.textContent = number(pending);
    this.#sessions.textContent = number(sessions);
    this.#plot.add(pending);
    if (pending === this.pending) return;
    this.pending = pending;
    this.#onChange();
  }

  /** Until there is another credential. */
  #refused() {
    if (this.#gateway.about === null) return null;
    this.#forget();
    for (const element of this.#numbers) element.hidden = true;
    this.#topics.isShown = false;
    say(this.#notice, NEEDS.watch);
    return null;
  }

  #forget() {
    this.#pendingText.textContent = this.#sessions.textContent = "–";
    this.pending = null;
    this.#onChange();
  }
}
