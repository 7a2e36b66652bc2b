// @ts-check
/**
 * A pane: one user's connection, from the form that opens it to the log of what comes.
 *
 * It holds one client at most, so that it never has two sockets.
 */

import { memoryStore, NotificationClient } from "/client.js";
import { ChoiceForm } from "./choice.js";
import { isOver } from "./credential.js";
import { copyOf, named, say, swap } from "./elements.js";
import { Log } from "./log.js";
import { Mailbox } from "./mailbox.js";
import { closed, NEEDS, plural, via } from "./words.js";

/** @typedef {import("/client.js").StateChange} StateChange */
/** @typedef {import("/client.js").Welcome} Welcome */
/** @typedef {import("./choice.js").Choice} Choice */
/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./latency.js").SendTimes} SendTimes */

/**
 * What a pane needs of the page around it.
 * @typedef {object} Surroundings
 * @property {Gateway} gateway
 * @property {SendTimes} sendTimes
 * @property {(id: string) => void} onArrival a notification came, or was acked: whoever sent it may ask what became of it
 * @property {(pane: Pane) => void} onChange there is something else to be remembered
 * @property {(pane: Pane) => void} onRemove
 */

const COUNTDOWN_EVERY_MS = 200;

/** Somebody looks on: it comes back sooner than an application has to. */
const LONGEST_PAUSE_MS = 5_000;

/** Close codes that another credential mends. */
const INVALID_TOKEN = 4001;
const FORBIDDEN = 4003;

/** One user's connection. */
export class Pane {
  element = copyOf("pane-template");
  #around;
  /** @type {NotificationClient | null} */
  #client = null;
  /** Where the client keeps its place. Outlives a client that was refused. */
  #store = memoryStore();
  /** What the place in the store belongs to; empty if it is of no use. */
  #placeOf = "";
  /** What the next welcome means. @type {"connected" | "resumed" | "reconnected"} */
  #next = "connected";
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #countdown;
  #form;
  #log;
  #mailbox;
  #listening = new AbortController();
  #name = named(this.element, "pane-name", HTMLElement);
  #state = named(this.element, "pane-state", HTMLElement);
  #message = named(this.element, "pane-message", HTMLElement);
  #running = named(this.element, "pane-running", HTMLElement);
  #cut = named(this.element, "pane-cut", HTMLButtonElement);
  #resume = named(this.element, "pane-resume", HTMLButtonElement);

  /**
   * @param {Choice} choice
   * @param {Surroundings} around
   */
  constructor(choice, around) {
    this.#around = around;
    this.#form = new ChoiceForm(this.element, around.gateway, choice);
    this.#log = new Log(this.element, around.sendTimes, (notification) => {
      this.#client?.ack(notification);
      around.onArrival(notification.id);
    });
    this.#mailbox = new Mailbox(
      this.element,
      around.gateway,
      () => this.#showPlaceholder(),
      (position) => this.#log.confirm(position),
    );
    this.#listen();
    this.#showUser();
    if (choice.wasConnected) this.#log.remark("was connected before the page was left");
  }

  /** What is to be remembered. @returns {Choice} */
  get choice() {
    const { user, begin, ack } = this.#form;
    return { user, begin, ack, wasConnected: this.#client !== null };
  }

  /** For whoever opened it by keyboard. */
  focus() {
    this.#form.focus();
  }

  #listen() {
    const { gateway, onChange, onRemove } = this.#around;
    const remove = named(this.element, "pane-remove", HTMLButtonElement);
    remove.addEventListener("click", () => onRemove(this));
    named(this.element, "pane-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#connect();
    });
    this.#form.onUser(() => this.#showUser());
    this.#form.onChange(() => onChange(this));
    gateway.addEventListener("change", () => this.#form.showKeys(), { signal: this.#listening.signal });
    this.#cut.addEventListener("click", () => this.#client?.pause());
    this.#resume.addEventListener("click", () => {
      this.#next = "resumed";
      this.#client?.resume();
    });
    named(this.element, "pane-disconnect", HTMLButtonElement).addEventListener("click", () => this.#client?.close());
  }

  #connect() {
    if (this.#client) return;
    const problem = this.#form.check();
    this.#warn(problem);
    if (problem !== "") return;

    // After a refusal the place still holds, as long as nothing else was chosen.
    const { user, begin, ack, summary } = this.#form;
    const placeOf = JSON.stringify([user, begin, ack]);
    const isKept = this.#placeOf === placeOf;
    this.#next = isKept ? "resumed" : "connected";
    if (!isKept) {
      this.#store = memoryStore();
      this.#placeOf = "";
    }

    const token = async () => this.#form.credential;
    const after = begin === "unacked" ? {} : { after: begin };
    const client = new NotificationClient({ user, ack, token, store: this.#store, maxBackoffMs: LONGEST_PAUSE_MS, ...after });
    this.#client = client;
    client.addEventListener("state", ({ detail }) => this.#changed(client, detail));
    client.addEventListener("welcome", ({ detail }) => {
      this.#placeOf = placeOf;
      this.#welcomed(detail);
    });
    client.addEventListener("notification", ({ detail }) => {
      this.#log.arrived(detail, ack === "auto");
      this.#around.onArrival(detail.id);
    });
    client.addEventListener("gap", ({ detail }) => {
      if (detail.reason === "epoch") this.#log.leavePending();
      this.#log.missing(detail);
    });
    named(this.element, "pane-summary", HTMLElement).textContent = summary;
    this.#show("connecting", "connecting");
    this.#around.onChange(this);
  }

  /** @param {Welcome} welcome */
  #welcomed({ user, position }) {
    const who = this.#next === "connected" ? ` as ${user}` : "";
    this.#log.remark(`${this.#next}${who} behind ${position}`);
    this.#next = "reconnected";
    this.#mailbox.hurry();
  }

  /**
   * @param {NotificationClient} client
   * @param {StateChange} change
   */
  #changed(client, { state, transport, code, reason, retryInMs, error }) {
    // One that was left behind has nothing more to say.
    if (client !== this.#client) return;
    switch (state) {
      case "connecting":
        return this.#show(state, state);
      case "open":
        this.element.dataset.transport = transport ?? "";
        return this.#show(state, `open via ${via(transport)}`);
      case "paused":
        this.#log.remark("cut");
        return this.#show(state, "cut");
      case "waiting":
        // It asks for the credential once more, and says right away what came of it.
        if (code === INVALID_TOKEN) return;
        // Its first attempts come together with those of the page itself.
        void this.#around.gateway.look();
        this.#log.remark(`interrupted: ${closed(code, reason)}`, "bad");
        return this.#wait(retryInMs ?? 0);
      case "closed":
        this.#client = null;
        this.#log.leavePending();
        if (error) this.#refused(error.code, error.reason);
        else this.#disconnected();
        this.#around.onChange(this);
    }
  }

  #disconnected() {
    this.#placeOf = "";
    this.#log.remark("disconnected");
    this.#show("idle", "not connected");
  }

  /** @param {number} code @param {string} reason */
  #refused(code, reason) {
    const words = code === INVALID_TOKEN ? this.#credentialFault(closed(code, reason)) : closed(code, reason);
    this.#log.remark(`closed: ${words}`, "bad");
    this.#show("closed", `closed: ${code}${reason ? ` ${reason.replaceAll("_", " ")}` : ""}`);
    this.element.dataset.code = String(code);
    const isAboutCredential = this.#around.gateway.hasKeys && (code === INVALID_TOKEN || code === FORBIDDEN);
    this.#form.markCredential(isAboutCredential);
    const place = this.#placeOf === "" ? "" : ": it goes on where it was";
    const what = this.#form.credential === "" ? "one" : "another";
    const advice = isAboutCredential ? ` ${NEEDS.listen} Paste ${what} and connect${place}.` : "";
    this.#warn(`The gateway closed this connection: ${words}.${advice}`);
  }

  /** What the gateway's answer leaves open, but the page can see. @param {string} otherwise */
  #credentialFault(otherwise) {
    const { credential } = this.#form;
    if (credential === "") return `a credential is missing (${INVALID_TOKEN})`;
    return isOver(credential, Date.now()) ? `the token is over (${INVALID_TOKEN})` : otherwise;
  }

  /** @param {number} milliseconds until it comes back */
  #wait(milliseconds) {
    const due = performance.now() + milliseconds;
    const count = () => {
      const rest = Math.ceil((due - performance.now()) / 1_000);
      this.#state.textContent = rest > 0 ? `comes back in ${rest} s` : "comes back";
    };
    this.#show("waiting", "");
    count();
    this.#countdown = setInterval(count, COUNTDOWN_EVERY_MS);
  }

  /** @param {string} state @param {string} text */
  #show(state, text) {
    clearInterval(this.#countdown);
    const { dataset } = this.element;
    dataset.state = this.#state.dataset.state = state;
    this.#state.textContent = text;
    if (state !== "open") delete dataset.transport;
    if (state !== "closed") delete dataset.code;
    const isDone = state === "idle" || state === "closed";
    // Where the gateway has keys it is the credential that is to be mended.
    const mending = state === "closed" && this.#around.gateway.hasKeys ? [this.#form.credentialField] : [];
    if (isDone) swap([this.#running], [...mending, ...this.#form.idleFields]);
    else swap(this.#form.idleFields, [this.#running]);
    if (state === "paused") swap([this.#cut], [this.#resume]);
    else swap([this.#resume], [this.#cut]);
    if (state === "open") {
      this.#warn("");
      this.#form.markCredential(false);
    }
    this.#showPlaceholder();
  }

  /** Whose pane it is, as the form says. */
  #showUser() {
    const { user } = this.#form;
    this.#name.textContent = user || "nobody";
    this.#log.name = user;
    this.#mailbox.user = user;
    named(this.element, "pane-remove", HTMLButtonElement).setAttribute("aria-label", `Remove the pane of ${user}`);
    this.#showPlaceholder();
  }

  /** What the empty log says: what waits, and how it comes. */
  #showPlaceholder() {
    const user = this.#form.user || "nobody";
    const pending = this.#mailbox.pending ?? 0;
    const waiting = `${plural(pending, "notification")} for ${user} ${pending === 1 ? "waits" : "wait"}.`;
    const { state } = this.element.dataset;
    if (state === "open") this.#log.placeholder = `Connected. What is sent to ${user} appears here.`;
    else if (state === "paused") this.#log.placeholder = `Cut. What is sent to ${user} now waits, and comes on Resume.`;
    else if (pending > 0) this.#log.placeholder = `${waiting} Connect, and ${pending === 1 ? "it comes" : "they come"}.`;
    else this.#log.placeholder = `Connect to receive as ${user}. What is sent before waits, and comes then.`;
  }

  /** @param {string} text */
  #warn(text) {
    say(this.#message, text);
  }

  /** The pane goes, and its connection with it. */
  remove() {
    this.#listening.abort();
    this.#mailbox.stop();
    clearInterval(this.#countdown);
    const client = this.#client;
    this.#client = null;
    client?.close();
    this.element.remove();
  }
}
