// @ts-check
/**
 * The gateway, live: what it holds now, and how much goes through it each second.
 */

import { byId, say } from "./elements.js";
import { Plot } from "./plot.js";
import { Poll } from "./poll.js";
import { age, NEEDS } from "./words.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */

/**
 * The answer of `GET /v1/stats`, as far as it is shown.
 * @typedef {object} Stats
 * @property {number} uptime_seconds
 * @property {{websocket: number, sse: number}} sessions
 * @property {number} users_online
 * @property {number} pending
 * @property {Record<string, number>} totals since the gateway was started
 */

const EVERY_MS = 1_000;

/** Two answers that lie further apart make no rate. */
const LONGEST_STEP_SECONDS = 10;

/** What is shown as it is. @type {[string, string, (stats: Stats) => number][]} */
const LEVELS = [
  ["sessions", "Sessions", ({ sessions }) => sessions.websocket + sessions.sse],
  ["online", "Users online", ({ users_online }) => users_online],
  ["pending", "Pending", ({ pending }) => pending],
];

/** What is shown as a rate of two answers: name, label, total. @type {[string, string, string][]} */
const RATES = [
  ["accepted", "Accepted", "notifications_accepted"],
  ["pushed", "Pushed", "frames_written"],
  ["acked", "Acked", "acked"],
  ["dropped", "Dropped", "dropped"],
];

/** Shows them as long as somebody looks. */
export class LiveStats {
  #gateway;
  #tiles = byId("tiles", HTMLElement);
  #notice = byId("live-notice", HTMLElement);
  /** @type {Map<string, Plot>} */
  #plots = new Map();
  /** @type {Stats | null} */
  #before = null;

  /** @param {Gateway} gateway */
  constructor(gateway) {
    this.#gateway = gateway;
    for (const [name, label] of LEVELS) this.#addTile(name, new Plot(label));
    for (const [name, label] of RATES) this.#addTile(name, new Plot(label, "/s"));
    this.poll = new Poll(gateway, () => this.#ask());
  }

  /** @param {string} name @param {Plot} plot */
  #addTile(name, plot) {
    plot.element.dataset.name = name;
    this.#plots.set(name, plot);
    this.#tiles.append(plot.element);
  }

  async #ask() {
    if (!this.#gateway.answersKeys) return this.#hide();
    const { body, problem } = await this.#gateway.ask("GET", "/v1/stats");
    // The next credential is asked about anew.
    if (problem && (problem.status === 401 || problem.status === 403)) return this.#hide();
    if (problem) return EVERY_MS;
    say(this.#notice, "");
    this.#tiles.hidden = false;
    this.#show(body);
    return EVERY_MS;
  }

  #hide() {
    if (this.#gateway.about === null) return null;
    this.#before = null;
    this.#tiles.hidden = true;
    say(this.#notice, NEEDS.live);
    byId("uptime", HTMLElement).textContent = "";
    return null;
  }

  /** @param {Stats} stats */
  #show(stats) {
    byId("uptime", HTMLElement).textContent = `up ${age(Math.floor(stats.uptime_seconds))}`;
    for (const [name, , level] of LEVELS) this.#plots.get(name)?.add(level(stats));
    const before = this.#before;
    this.#before = stats;
    const seconds = before ? stats.uptime_seconds - before.uptime_seconds : 0;
    // Of a gateway that was started anew the totals begin anew, too; and what happened while nobody looked is no rate of now.
    const isAnew = before && RATES.some(([, , total]) => (stats.totals[total] ?? 0) < (before.totals[total] ?? 0));
    if (!before || isAnew || seconds <= 0 || seconds > LONGEST_STEP_SECONDS) return;
    for (const [name, , total] of RATES) {
      const more = (stats.totals[total] ?? 0) - (before.totals[total] ?? 0);
      this.#plots.get(name)?.add(Math.max(0, more) / seconds);
    }
  }
}
