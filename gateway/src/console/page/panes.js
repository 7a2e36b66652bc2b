// @ts-check
/**
 * The panes side by side, and what the browser remembers of them: users and choices, never a credential.
 */

import { choiceFrom, freshChoice } from "./choice.js";
import { byId } from "./elements.js";
import { Pane } from "./pane.js";

/** @typedef {import("./choice.js").Choice} Choice */
/** @typedef {import("./pane.js").Surroundings} Surroundings */

/** Where the browser keeps it. */
const KEY = "gateway.console.panes";

/** More would not be seen, and each asks the gateway once a second. */
const MAX_PANES = 8;

/** Whom the next pane is for, as long as nobody says otherwise. */
const NAMES = ["bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan"];

/** All panes. */
export class Panes {
  /** @type {Pane[]} */
  #panes = [];
  #place = byId("panes", HTMLElement);
  #add = byId("add-pane", HTMLButtonElement);
  #around;

  /** @param {Omit<Surroundings, "onChange" | "onRemove">} around */
  constructor(around) {
    this.#around = around;
    for (const choice of remembered()) this.#open(choice);
    this.#add.addEventListener("click", () => {
      this.#open(freshChoice(this.#nextName())).focus();
      this.#remember();
    });
    this.#update();
  }

  /** @param {Choice} choice */
  #open(choice) {
    const pane = new Pane(choice, {
      ...this.#around,
      onChange: () => this.#remember(),
      onRemove: (gone) => this.#remove(gone),
    });
    this.#panes.push(pane);
    this.#place.append(pane.element);
    this.#update();
    return pane;
  }

  /** @param {Pane} pane */
  #remove(pane) {
    this.#panes = this.#panes.filter((other) => other !== pane);
    pane.remove();
    this.#update();
    this.#remember();
    // What had the focus is gone.
    this.#add.focus();
  }

  #update() {
    this.#add.disabled = this.#panes.length >= MAX_PANES;
    this.#place.dataset.count = String(this.#panes.length);
  }

  #nextName() {
    const taken = new Set(this.#panes.map((pane) => pane.choice.user));
    return NAMES.find((name) => !taken.has(name)) ?? "bob";
  }

  #remember() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#panes.map(({ choice }) => choice)));
    } catch {
      // A browser that keeps nothing begins with bob again.
    }
  }
}

/** The panes of the last time; bob's at the first time, and when there is nothing that can be read. @returns {Choice[]} */
function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
    if (Array.isArray(kept) && kept.length > 0) return kept.slice(0, MAX_PANES).map(choiceFrom);
  } catch {
    // As good as nothing.
  }
  return [freshChoice("bob")];
}
