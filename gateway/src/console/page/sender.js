// @ts-check
/**
 * The form that sends: what it says becomes a request, and what is wrong with it is shown at the field.
 */

import { byId, say } from "./elements.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./gateway.js").Problem} Problem */
/** @typedef {import("./sent.js").Request} Request */

/** What is said below the recipients. @type {Record<string, string>} */
const HINTS = {
  users: "One user, or several with commas between.",
  topic: "Everybody who is subscribed to it now.",
  everybody: "Everybody who is connected now. It is kept for nobody.",
};

/** The fields that a refusal may name. */
const FIELDS = ["to", "topic", "from", "title", "body", "ttl_seconds", "priority", "collapse_key", "data"];

/** Reads the form, and hands on what is to be sent. */
export class Sender {
  #form = byId("send-form", HTMLFormElement);
  #status = byId("send-status", HTMLElement);
  #options = byId("options", HTMLDetailsElement);
  #data = byId("data", HTMLTextAreaElement);
  #onSend;

  /** @param {(request: Request) => void} onSend */
  constructor(onSend) {
    this.#onSend = onSend;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", (event) => {
      if (event.target instanceof HTMLElement) event.target.removeAttribute("aria-invalid");
      if (event.target === this.#data) this.#checkData();
    });
    this.#form.addEventListener("change", () => this.#showTarget());
    this.#form.addEventListener("keydown", (event) => this.#sendByKey(event));
    this.#showTarget();
  }

  /** What became of the last one, below the button. @param {string} text @param {"good" | "bad" | "quiet"} tone */
  report(text, tone) {
    this.#status.dataset.tone = tone;
    say(this.#status, text);
  }

  /** Leads to the field that a refusal names, or that mends it. @param {Problem} problem */
  point({ field, status }) {
    if (status === 401 || status === 403) return byId("credential", HTMLInputElement).focus();
    const [, name, index] = /^([a-z_]+)(?:\[(\d+)\])?/.exec(field ?? "") ?? [];
    if (name === undefined || !FIELDS.includes(name)) return;
    const element = document.getElementById(name === "topic" && this.#target !== "topic" ? "to" : name);
    if (!element) return;
    if (this.#options.contains(element)) this.#options.open = true;
    element.setAttribute("aria-invalid", "true");
    element.focus();
    if (index !== undefined && element instanceof HTMLInputElement) selectItem(element, Number(index));
  }

  get #target() {
    return String(new FormData(this.#form).get("target") ?? "users");
  }

  #showTarget() {
    const target = this.#target;
    byId("to-field", HTMLElement).hidden = target !== "users";
    byId("topic-field", HTMLElement).hidden = target !== "topic";
    byId("to-hint", HTMLElement).textContent = HINTS[target] ?? "";
  }

  /** Enter sends from every field of one line by itself; in the body it would be a new line. @param {KeyboardEvent} event */
  #sendByKey(event) {
    if (event.key !== "Enter" || event.isComposing || event.shiftKey) return;
    // A key that is held down means one notification all the same.
    if (event.repeat) return event.preventDefault();
    const isBody = event.target === byId("body", HTMLElement);
    const isData = event.target === this.#data && (event.ctrlKey || event.metaKey);
    if (!isBody && !isData) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #send() {
    const fields = new FormData(this.#form);
    /** @param {string} name */
    const text = (name) => String(fields.get(name) ?? "");
    const target = this.#target;
    const to = text("to").split(",").map((name) => name.trim()).filter((name) => name !== "");
    const topic = target === "everybody" ? "*" : text("topic").trim();
    if (target === "users" && to.length === 0) return this.#wrong("to", "To whom? Name one user at least.");
    if (target === "topic" && topic === "") return this.#wrong("topic", "To which topic?");
    const seconds = text("ttl_seconds").trim();
    const isWhole = seconds === "" || /^\d+$/.test(seconds);
    if (!isWhole) return this.#wrong("ttl_seconds", "The time to live is a whole number of seconds.");
    if (!this.#checkData()) return this.#wrong("data", "The data is no JSON.");

    const head = {
      ...(target === "users" ? { to } : { topic }),
      ...given({ from: text("from"), title: text("title"), body: text("body"), collapse_key: text("collapse_key") }),
      ...(seconds === "" ? {} : { ttl_seconds: Number(seconds) }),
      ...(text("priority") === "normal" ? {} : { priority: text("priority") }),
    };
    this.report("sending …", "quiet");
    this.#onSend({
      target: target === "users" ? { to } : { topic },
      text: [text("title"), text("body")].filter(Boolean).join(": "),
      isBrief: head.ttl_seconds === 0,
      hasKey: fields.has("with-key"),
      body: withData(JSON.stringify(head), text("data").trim()),
    });
  }

  /** @param {string} field @param {string} detail */
  #wrong(field, detail) {
    this.report(detail, "bad");
    this.point({ status: 0, title: "", detail, field });
  }

  /** Whether the data is JSON, or nothing. What is wrong with it stands below the field. */
  #checkData() {
    const hint = byId("data-hint", HTMLElement);
    const text = this.#data.value.trim();
    try {
      if (text !== "") JSON.parse(text);
      say(hint, "");
      this.#data.removeAttribute("aria-invalid");
      return true;
    } catch (error) {
      say(hint, `No JSON: ${error instanceof Error ? error.message : error}`);
      this.#data.setAttribute("aria-invalid", "true");
      return false;
    }
  }
}

/** What was filled in. @param {Record<string, string>} texts */
function given(texts) {
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ""));
}

/**
 * The request with the data as it was typed: read and written anew, large numbers would not be the same.
 * @param {string} head an object with a field at least
 * @param {string} data JSON, or nothing
 */
function withData(head, data) {
  return data === "" ? head : `${head.slice(0, -1)},"data":${data}}`;
}

/** Selects one of the names between commas. @param {HTMLInputElement} input @param {number} index */
function selectItem(input, index) {
  let seen = -1;
  for (const { 0: match, index: at } of input.value.matchAll(/[^,]+/g)) {
    if (match.trim() !== "") seen += 1;
    if (seen === index) return input.setSelectionRange(at, at + match.length);
  }
}
