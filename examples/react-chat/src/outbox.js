import { SendFailed, atMost, send } from "./send.js";

/** So long the request that sends a message waits for its outcome: whoever has the chat open acks at once. */
const SEND_WAIT_MS = 3_000;
/** So long a later question waits. A browser holds six connections to the gateway at once, and a question is one of them. */
const ASK_WAIT_MS = 25_000;
const PAUSE_AFTER_FAILED_QUESTION_MS = 10_000;
/** Far within the time in which the gateway knows the key (24 hours): later the question would be a second message. */
const ASK_FOR_MS = 3_600_000;
const MAX_MESSAGES = 500;

/**
 * @typedef {object} Message
 * @property {string} key its name on this page, in its copies, and as Idempotency-Key
 * @property {string} peer
 * @property {string} text
 * @property {Date} writtenAt
 * @property {"waiting" | "sending" | "accepted" | "seen" | "failed"} status
 * @property {string} [id] given by the gateway, which has accepted it
 * @property {string} [reason] why it failed
 * @property {number} [askedAt] when its outcome was asked for last
 */

/**
 * What was written on this page, and what became of it.
 *
 * Messages go one after the other, so that a retry cannot let a later one overtake an earlier one. One that the gateway
 * accepted, also for the sender, comes back over the socket: that copy tells it first, and the next one may go while the
 * request still waits for the peer.
 *
 * React reads it with `useSyncExternalStore`: `messages` is a new array whenever something changed.
 */
export class Outbox {
  /** @type {readonly Message[]} */
  #messages = [];
  #listeners = new Set();
  /** Ends every request. */
  #open = new AbortController();
  /** Ends the questions about the watched peer. */
  #watch = new AbortController();
  #watchedPeer = null;
  /** Tells the questions that there may be one more. */
  #wakeWatch = () => {};
  /** Keys of messages whose first request is not answered yet. */
  #inFlight = new Set();

  /** @param {{url: string, user: string, token?: () => Promise<string | undefined>}} sender */
  constructor(sender) {
    this.sender = sender;
  }

  messages = () => this.#messages;

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Sends a text, when those before it are accepted. */
  write(peer, text) {
    const message = { key: newKey(), peer, text, writtenAt: new Date(), status: "waiting" };
    this.#set([...this.#messages, message].slice(-MAX_MESSAGES));
    this.#next();
  }

  /** Sends a failed one again. Its key is the old one, so that it does not come twice if it did arrive. */
  tryAgain(key) {
    this.#change(key, { status: "waiting", reason: undefined });
    this.#next();
  }

  /** Forgets a failed one. */
  discard(key) {
    this.#set(this.#messages.filter((message) => message.key !== key));
  }

  /** Looks for copies of messages that are on their way: those are accepted. */
  hear(items) {
    for (const { key, status, id } of this.#messages) {
      // One that failed without an answer may have arrived all the same.
      const isOpen = status === "sending" || (status === "failed" && !id);
      if (!isOpen) continue;
      const copy = items.findLast((item) => keyOf(item) === key && item.from === this.sender.user);
      if (copy) this.#change(key, { status: "accepted", id: copy.id, reason: undefined });
    }
    this.#next();
    this.#wakeWatch();
  }

  /** Asks whether this peer has seen what waits there: the one whose conversation is open, or nobody (`null`). */
  watch(peer) {
    this.#watch.abort();
    this.#watch = new AbortController();
    this.#watchedPeer = peer;
    if (peer !== null) void this.#askOnAndOn(AbortSignal.any([this.#watch.signal, this.#open.signal]));
  }

  /** Ends all requests. The outbox may be used again: StrictMode ends it once before it begins. */
  stop() {
    this.#open.abort();
    this.#open = new AbortController();
  }

  #next() {
    if (this.#messages.some(({ status }) => status === "sending")) return;
    const message = this.#messages.find(({ status }) => status === "waiting");
    if (message) void this.#send(message);
  }

  async #send(message) {
    const { key } = message;
    this.#change(key, { status: "sending" });
    this.#inFlight.add(key);
    try {
      this.#learn(message, await this.#post(message, SEND_WAIT_MS, this.#open.signal));
    } catch (error) {
      // Its copy may have come meanwhile: then it is accepted, and only the outcome is unknown.
      if (this.#statusOf(key) === "sending") this.#change(key, { status: "failed", reason: reasonOf(error) });
    }
    this.#inFlight.delete(key);
    this.#next();
    this.#wakeWatch();
  }

  #post({ key, peer, text }, waitMs, signal) {
    const { url, user, token } = this.sender;
    const notification = {
      // The copy for the sender shows it in the other tabs, too, and after a reload.
      to: peer === user ? [user] : [peer, user],
      from: user,
      body: text,
      data: { chat: { to: peer, key } },
    };
    return send(notification, { url, key, token, waitMs, signal });
  }

  /** Notes what an answer tells. */
  #learn({ key, peer }, { id, outcomes }) {
    // The peer is the first recipient, and the states come in their order.
    const { state = "pending", reason } = outcomes?.recipients[0] ?? {};
    if (state === "acked") {
      this.#change(key, { id, status: "seen" });
    } else if (state === "pending") {
      this.#change(key, { id, status: "accepted" });
    } else {
      this.#change(key, { id, status: "failed", reason: `${peer} will not see it: ${LOST[reason] ?? LOST[state] ?? state}` });
    }
  }

  /**
   * Asks about one message after the other. To ask is to repeat the request that sent it: under its key it sends nothing, and its
   * answer tells the outcome, which a token opens no other way to.
   */
  async #askOnAndOn(signal) {
    try {
      for (;;) {
        const message = this.#nextQuestion();
        if (!message) {
          // A loop that was aborted meanwhile waits for nothing, and is forgotten.
          await new Promise((resolve) => (this.#wakeWatch = resolve));
          signal.throwIfAborted();
          continue;
        }
        this.#change(message.key, { askedAt: performance.now() });
        try {
          this.#learn(message, await this.#post(message, ASK_WAIT_MS, signal));
        } catch (error) {
          if (!(error instanceof SendFailed)) throw error;
          await atMost(PAUSE_AFTER_FAILED_QUESTION_MS, signal);
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** The accepted message of the watched peer that was asked about least recently. */
  #nextQuestion() {
    const open = this.#messages.filter(
      ({ key, peer, status, writtenAt }) =>
        peer === this.#watchedPeer &&
        status === "accepted" &&
        !this.#inFlight.has(key) &&
        Date.now() < writtenAt.getTime() + ASK_FOR_MS,
    );
    return open.reduce((first, message) => ((message.askedAt ?? 0) < (first?.askedAt ?? Infinity) ? message : first), null);
  }

  #statusOf(key) {
    return this.#messages.find((message) => message.key === key)?.status;
  }

  #change(key, change) {
    this.#set(this.#messages.map((message) => (message.key === key ? { ...message, ...change } : message)));
  }

  #set(messages) {
    this.#messages = messages;
    for (const listener of this.#listeners) listener();
  }
}

const LOST = {
  expired: "it waited too long",
  withdrawn: "it was taken back",
  collapsed: "another one took its place",
  overflow: "the mailbox overflowed",
  rejected: "the mailbox is full",
};

/** The name that a page gave to a notification of this chat; others have none. */
export function keyOf(notification) {
  const key = notification.data?.chat?.key;
  return typeof key === "string" ? key : undefined;
}

const reasonOf = (error) => (error instanceof SendFailed ? error.message : "the page stopped sending");

/** Not `crypto.randomUUID`: that one is missing on pages that came over plain HTTP from another machine. */
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
