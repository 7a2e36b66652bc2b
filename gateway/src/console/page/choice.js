// @ts-check
/**
 * What is chosen before a pane connects: the user, where to begin, how to ack, and a credential if the gateway has keys.
 *
 * The credential is read from its field when it is asked for, and kept nowhere else.
 */

import { credentialIn, described, kindOf } from "./credential.js";
import { named } from "./elements.js";
import { nameProblem } from "./words.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */

/** @typedef {"unacked" | "start" | "now"} Begin */

/**
 * What is remembered of a pane: no credential.
 * @typedef {object} Choice
 * @property {string} user
 * @property {Begin} begin
 * @property {"auto" | "manual"} ack
 * @property {boolean} wasConnected
 */

/** @param {string} user @returns {Choice} */
export function freshChoice(user) {
  return { user, begin: "unacked", ack: "auto", wasConnected: false };
}

/** Whatever was remembered, as a choice. @param {any} kept @returns {Choice} */
export function choiceFrom(kept) {
  return {
    user: typeof kept?.user === "string" ? kept.user : "bob",
    begin: kept?.begin === "start" || kept?.begin === "now" ? kept.begin : "unacked",
    ack: kept?.ack === "manual" ? "manual" : "auto",
    wasConnected: kept?.wasConnected === true,
  };
}

/** The form of a pane. */
export class ChoiceForm {
  /** The credential with what is said of it; shown while the gateway has keys, connected or not. */
  credentialField;
  /** What is shown only as long as the pane is not connected. */
  idleFields;
  #gateway;
  #user;
  #begin;
  #ack;
  #credential;
  #kind;

  /**
   * @param {HTMLElement} pane
   * @param {Gateway} gateway
   * @param {Choice} choice
   */
  constructor(pane, gateway, { user, begin, ack }) {
    this.#gateway = gateway;
    this.idleFields = [named(pane, "pane-line", HTMLElement), named(pane, "pane-options", HTMLElement)];
    this.credentialField = named(pane, "pane-credential-field", HTMLElement);
    this.#user = named(pane, "pane-user", HTMLInputElement);
    this.#begin = named(pane, "pane-begin", HTMLSelectElement);
    this.#ack = named(pane, "pane-ack", HTMLSelectElement);
    this.#credential = named(pane, "pane-credential", HTMLInputElement);
    this.#kind = named(pane, "pane-credential-kind", HTMLElement);
    this.#user.value = user;
    this.#begin.value = begin;
    this.#ack.value = ack;
    this.#credential.addEventListener("input", () => this.showKeys());
    this.showKeys();
  }

  /** @param {() => void} listener there is another user in the field */
  onUser(listener) {
    this.#user.addEventListener("input", listener);
  }

  /** @param {() => void} listener something else was chosen */
  onChange(listener) {
    for (const field of [this.#user, this.#begin, this.#ack]) field.addEventListener("change", listener);
  }

  get user() {
    // Keyboards of phones add a space behind a word.
    return this.#user.value.trim();
  }

  get begin() {
    return /** @type {Begin} */ (this.#begin.value);
  }

  /** @returns {"auto" | "manual"} */
  get ack() {
    return this.#ack.value === "manual" ? "manual" : "auto";
  }

  /** Its own, or else the sender's; empty if there is none. */
  get credential() {
    return credentialIn(this.#credential) || this.#gateway.credential;
  }

  /** What was chosen, in words. */
  get summary() {
    return `Began with ${chosen(this.#begin)}; acks ${chosen(this.#ack)}.`;
  }

  /** For whoever opened the pane by keyboard. */
  focus() {
    this.#user.select();
    this.#user.focus();
  }

  /** Why it is not possible to connect with this, empty if it is; leads to the field that is wrong. */
  check() {
    const problem = nameProblem(this.user);
    this.#user.setAttribute("aria-invalid", String(problem !== ""));
    const isMalformed = kindOf(credentialIn(this.#credential)) === "malformed";
    if (problem !== "") this.#user.focus();
    else if (isMalformed) this.#credential.focus();
    return problem || (isMalformed ? "The credential is neither an API key nor a token." : "");
  }

  /** Shows the field for a credential if one is needed, and what it holds. */
  showKeys() {
    this.credentialField.hidden = !this.#gateway.hasKeys;
    this.#kind.textContent = described(credentialIn(this.#credential), Date.now());
  }

  /** @param {boolean} isRefused another credential would mend it */
  markCredential(isRefused) {
    if (isRefused) this.#credential.setAttribute("aria-invalid", "true");
    else this.#credential.removeAttribute("aria-invalid");
    this.showKeys();
  }
}

/** What a field shows as chosen. @param {HTMLSelectElement} select */
function chosen(select) {
  return select.selectedOptions[0]?.textContent ?? "";
}
