// @ts-check
/**
 * The topics of a pane's user: shown, subscribed to, left.
 */

import { copyOf, named } from "./elements.js";
import { Away, part } from "./gateway.js";
import { nameProblem, NEEDS } from "./words.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */

/** A list with a field to add to it. */
export class Topics {
  user = "";
  #gateway;
  #onChange;
  #section;
  #list;
  #name;
  #problem;
  /** As they are shown. @type {string[]} */
  #shown = [];

  /**
   * @param {HTMLElement} pane
   * @param {Gateway} gateway
   * @param {() => void} onChange a subscription was made or ended
   */
  constructor(pane, gateway, onChange) {
    this.#gateway = gateway;
    this.#onChange = onChange;
    this.#section = named(pane, "topics", HTMLElement);
    this.#list = named(pane, "pane-topics", HTMLUListElement);
    this.#name = named(pane, "topic-name", HTMLInputElement);
    this.#problem = named(pane, "topics-problem", HTMLElement);
    this.#name.setAttribute("aria-label", "Topic to subscribe to");
    this.#list.setAttribute("aria-label", "Topics");
    named(pane, "topic-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#subscribe(this.#name.value.trim());
    });
  }

  /** @param {boolean} isShown */
  set isShown(isShown) {
    this.#section.hidden = !isShown;
  }

  /** @param {string[]} topics */
  show(topics) {
    // What is the same stays, and so does the focus in it.
    if (topics.length === this.#shown.length && topics.every((topic, at) => topic === this.#shown[at])) return;
    this.#shown = topics;
    this.#list.replaceChildren(...topics.map((topic) => this.#chip(topic)));
  }

  /** @param {string} topic */
  #chip(topic) {
    const chip = copyOf("topic-template");
    named(chip, "topic", HTMLElement).textContent = topic;
    const leave = named(chip, "topic-unsubscribe", HTMLButtonElement);
    leave.setAttribute("aria-label", `Unsubscribe from ${topic}`);
    leave.title = leave.getAttribute("aria-label") ?? "";
    leave.addEventListener("click", () => {
      this.#name.focus();
      void this.#change("DELETE", topic);
    });
    return chip;
  }

  /** @param {string} topic */
  async #subscribe(topic) {
    const everybody = "Everybody who is connected gets what is sent to *: it takes no subscription.";
    const problem = topic === "*" ? everybody : nameProblem(topic);
    this.#problem.textContent = problem;
    if (problem === "" && (await this.#change("PUT", topic))) this.#name.value = "";
  }

  /** @param {"PUT" | "DELETE"} method @param {string} topic */
  async #change(method, topic) {
    try {
      const { problem } = await this.#gateway.ask(method, `/v1/topics/${part(topic)}/subscribers/${part(this.user)}`);
      const needs = problem && (problem.status === 401 || problem.status === 403) ? NEEDS.topics : "";
      this.#problem.textContent = problem ? needs || `${problem.status} ${problem.title}: ${problem.detail}` : "";
      this.#onChange();
      return problem === null;
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      this.#problem.textContent = "The gateway does not answer.";
      return false;
    }
  }
}
