// @ts-check
/**
 * Receives a user's notifications in a browser, over networks that break.
 *
 * One module without dependencies, for any page and any bundler:
 *
 *     import { NotificationClient } from "http://127.0.0.1:8000/client.js";
 *     const client = new NotificationClient({ user: "bob" });
 *     client.addEventListener("notification", ({ detail }) => console.log(detail.title, detail.body));
 *
 * It speaks `notify.v1`, as `/asyncapi.yaml` describes it, and keeps its promise: what was accepted for the user arrives in order
 * and once, or is announced as a gap. It comes back by itself after a break, behind the place where it was; it acks what the page
 * has dealt with, and nothing before. What it shows never leaves through it: no text, no credential is written anywhere.
 *
 * Read from the top: what a page hands in and is handed, the client, the two ways to the gateway, where positions are kept.
 */

/**
 * What a sender sent.
 * @typedef {object} Notification
 * @property {"notification"} type
 * @property {string} id its name (a UUID), as the sender knows it
 * @property {string} sent_at when the gateway accepted it (RFC 3339, UTC)
 * @property {string} [position] its place in the log; absent if it went to everybody who is connected
 * @property {string} [prev] the place of the one before it in this mailbox
 * @property {string} [from]
 * @property {string} [title]
 * @property {string} [body]
 * @property {unknown} [data] whatever JSON the sender gave
 * @property {string} [topic]
 * @property {string} [traceparent] to continue the sender's trace (W3C Trace Context)
 * @property {boolean} replayed it had waited in the mailbox before this session began
 */

/**
 * Notifications that will not come, told in the place where they would have been.
 * @typedef {object} Gap
 * @property {"gap"} type
 * @property {string} after they lie behind this position
 * @property {string} until up to and including this one
 * @property {number} [count] how many, if that is known
 * @property {"epoch" | "overflow" | "expired" | "withdrawn" | "collapsed" | "acked"} reason the gravest of theirs
 * @property {boolean} isLoss the user misses something: the reason is `epoch` or `overflow`
 */

/**
 * How a session began.
 * @typedef {object} Welcome
 * @property {string} session its name, for support
 * @property {string} user
 * @property {string} position where it starts
 * @property {string} head the mailbox's last position then
 * @property {number} heartbeat_ms
 */

/**
 * How the client is connected. `waiting`: it comes back by itself. `closed`: for good.
 * @typedef {"connecting" | "open" | "waiting" | "paused" | "closed"} State
 */

/** @typedef {"websocket" | "sse"} Transport */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {Transport | null} transport
 * @property {number} [code] why the last connection ended: a close code, 1006 if it broke
 * @property {string} [reason] the same in words
 * @property {number} [retryInMs] when it comes back, in milliseconds
 * @property {ConnectionRefused} [error] why it is closed for good, if the page did not ask for it
 */

/**
 * What was dealt with: everything behind `since`, up to and including `position`, in the mailbox of `user`.
 * @typedef {{position: string, since: string, user?: string}} Bookmark
 */

/**
 * Where a bookmark outlives the page, or does not. All of it may fail silently: then notifications come again.
 * @typedef {object} PositionStore
 * @property {() => Bookmark | null | Promise<Bookmark | null>} load
 * @property {(bookmark: Bookmark) => unknown} save called a few times a second at most
 * @property {() => unknown} clear called when its position has lost its meaning
 */

/**
 * @typedef {object} Options
 * @property {string} user whose notifications
 * @property {string | URL} [url] the gateway; where this module came from, unless said otherwise. In a bundle say it.
 * @property {(why: {refused: boolean}) => string | null | undefined | Promise<string | null | undefined>} [token] a credential of the
 *   user. Asked before each connect, before the last token is over, and once more when one was refused: then what is cached is of no
 *   use. One that fails is asked again later; a {@link ConnectionRefused} thrown by it is the end. A gateway in open mode needs none.
 * @property {string} [after] where to begin if the store knows nothing: a position, `"start"` (everything that is kept) or `"now"`;
 *   absent: everything that is not acked
 * @property {PositionStore} [store] {@link memoryStore} unless said otherwise: a new page begins anew. Only one that outlives the
 *   page lets the next page hear of what was lost meanwhile: without a position nobody knows what it misses.
 * @property {"auto" | "manual"} [ack] `auto`: acked as soon as all listeners have returned, or thrown, or the loop over the client
 *   asks for the next item; nobody waits for a promise of a listener. `manual`: by {@link NotificationClient#ack}.
 * @property {"auto" | Transport} [transport] `auto`: a WebSocket, and server-sent events where something on the way blocks it
 * @property {number} [minBackoffMs] the first pause before coming back is at most so long (500), and each further one twice as long
 * @property {number} [maxBackoffMs] until it is at most so long (30,000), unless the gateway says when
 */

/**
 * @typedef {object} ClientEvents
 * @property {CustomEvent<Notification>} notification
 * @property {CustomEvent<Gap>} gap
 * @property {CustomEvent<StateChange>} state
 * @property {CustomEvent<Welcome>} welcome
 */

/**
 * An item that waits for a loop, or that a loop has taken and not dealt with yet; and the position before it.
 * @typedef {{item: Notification | Gap, before: string | null, taken: boolean}} Unread
 */

/**
 * A loop that waits for its next item.
 * @typedef {object} Reader
 * @property {object} loop
 * @property {(unread: Unread) => void} taken
 * @property {(result: IteratorResult<Notification | Gap, undefined>) => void} resolve
 * @property {(error: Error) => void} reject
 */

/** The gateway said not to come back. */
export class ConnectionRefused extends Error {
  /**
   * @param {number} code a close code: 4000–4099
   * @param {string} reason
   */
  constructor(code, reason) {
    super(`the gateway refused the connection: ${code} ${reason}`);
    this.name = "ConnectionRefused";
    this.code = code;
    this.reason = reason;
  }
}

/** Acks are gathered for so long: they are cumulative. The same for what is written to the store. */
const ACK_DELAY_MS = 200;

/** From the attempt to `welcome`. Beyond it the attempt is given up. */
const CONNECT_TIMEOUT_MS = 15_000;

/** For the page's own answers: a token, a bookmark. People may have to sign in for one. */
const PAGE_TIMEOUT_MS = 60_000;

/** For the answer to an ack that goes over HTTP; then it is sent again, after a pause that grows with each failure. */
const ACK_TIMEOUT_MS = 10_000;
const ACK_PAUSE_MS = 2_000;
const MAX_ACK_PAUSE_MS = 30_000;

/** Of a `welcome` that does not say. */
const HEARTBEAT_MS = 25_000;

/** Two heartbeats that come as late as they may, 20 % each: beyond it the line is dead. */
const HEARTBEATS_TO_WAIT = 2.4;

/** A session that lasted so long was a good one: the next pause is a short one again. */
const GOOD_SESSION_MS = 5_000;

/** After one that was over sooner it comes back at once only once, whatever the code says. */
const SHORT_SESSION_MS = 1_000;

/** So many WebSockets in a row that did not come to life: something on the way may block them, and a stream is tried. */
const BLOCKED_AFTER = 2;

/** A stream that works right after a WebSocket failed is the only way, it seems: for so long. */
const STREAM_PREFERENCE_MS = 600_000;

/** If streams had failed, too, the gateway was away and has just come back: a WebSocket is tried again so soon. */
const STREAM_DOUBT_MS = 5_000;

/** Items that wait for a loop over the client. When there are more the client leaves: they wait in the mailbox, which is bounded. */
const MAX_UNREAD = 1_000;

/** A token is replaced one to two of these before its end, or one to two fifths of what is left of its life. */
const REFRESH_LEAD_MS = 60_000;

/** `token` is asked for another one so long after it had none, and each time twice as long. */
const REFRESH_PAUSE_MS = 1_000;

/** A `Retry-After` is not heeded longer than this: it may be of another server that stands in the way. */
const MAX_RETRY_AFTER_MS = 300_000;

/** Ids that are remembered: after the log was lost, what came before may come once more, at another position. */
const REMEMBERED_IDS = 1_000;

/** The longest time that a browser's timer can wait. */
const MAX_TIMER_MS = 2_147_483_647;

/** Close codes that the client acts on by name; `BROKEN` is what browsers say of a connection without one. */
const BROKEN = 1006;
const INVALID_TOKEN = 4001;
const TOO_LARGE = 1009;
const OVERLOADED = 1013;

/**
 * One user's notifications.
 *
 * Begins by itself, as soon as somebody listens to `notification` or loops over it, in a later task: one that is closed in the turn
 * that made it, as frameworks do that mount everything twice, never opens a connection.
 *
 * Listen to `notification`, `gap`, `state` and `welcome`, or loop: `for await (const item of client)` gives notifications and gaps
 * in order. Whoever loops once has to go on: what is not taken is not acked, and beyond a thousand items the client leaves the
 * gateway until there is room.
 *
 * @implements {AsyncIterable<Notification | Gap>}
 */
export class NotificationClient extends EventTarget {
  /** @type {Required<Pick<Options, "user" | "ack" | "transport" | "minBackoffMs" | "maxBackoffMs" | "store">> & Options} */
  #options;
  /** @type {string} */
  #address;
  /** @type {State} */
  #state = "connecting";
  /** @type {Connection | null} */
  #connection = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether the pause may be cut short. What the gateway asked for may not. */
  #mayHurry = true;
  /** Pauses since the last good session. */
  #attempt = 0;
  /** Which attempt to connect is the current one: whatever belongs to an older one comes too late. */
  #generation = 0;
  /** Somebody listens: there is a point in connecting. */
  #isHeard = false;
  /** The store was asked. */
  #begun = false;
  /** A credential was refused, and `token` asked once more; no good session was since. */
  #askedAgain = false;
  /** The last credential was refused. */
  #wasRefused = false;
  /** It has come back at once, and no session of some length was since. */
  #hurried = false;
  #refreshesInPlace = true;
  /** WebSockets in a row that did not come to life. */
  #blocked = 0;
  /** The WebSocket has just failed: now a stream, to see whether it is only that. */
  #tryStream = false;
  /** Streams failed since anything worked: not WebSockets are blocked, the gateway is away. */
  #streamFailed = false;
  /** Until when a stream is tried first. */
  #streamUntil = 0;
  #wentOffline = false;
  /** Stops the listeners to the page's own events. */
  #page = new AbortController();

  /** Up to where everything was received or announced. @type {string | null} */
  #received = null;
  /** From where to resume: as `#received`, but of the old epoch until the loss is announced. @type {string | null} */
  #resume = null;
  /** Where the unbroken reading began. @type {string | null} */
  #since = null;
  /** Up to where the page acked by hand. @type {string | null} */
  #acked = null;
  /** @type {Bookmark | null} */
  #bookmark = null;
  #saved = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ackTimer;
  /** The last notifications. @type {Set<string>} */
  #ids = new Set();
  #isDelivering = false;
  /** What a listener asked for while the client was calling it. @type {(() => void) | null} */
  #afterwards = null;

  /** For loops, and not dealt with yet, oldest first. @type {Unread[]} */
  #unread = [];
  /** Loops that wait for an item. @type {Reader[]} */
  #readers = [];
  #isLooped = false;
  /** It left because nobody takes what came. */
  #isFull = false;
  /** @type {ConnectionRefused | undefined} */
  #error;

  /** @param {Options} options */
  constructor(options) {
    super();
    if (typeof options?.user !== "string" || options.user === "") throw new TypeError("NotificationClient: `user` is missing");
    const { after = "now" } = options;
    if (after !== "start" && after !== "now" && !isPosition(after)) throw new TypeError("NotificationClient: `after` is no position");
    this.#options = {
      ...options,
      ack: options.ack ?? "auto",
      transport: options.transport ?? "auto",
      minBackoffMs: options.minBackoffMs ?? 500,
      maxBackoffMs: options.maxBackoffMs ?? 30_000,
      store: options.store ?? memoryStore(),
    };
    this.#address = gatewayAt(options.url);
    // Of half a character nothing can be made: told at once, not at each attempt.
    encodeURIComponent(options.user);
    this.#watchPage();
  }

  /** Whose notifications. */
  get user() {
    return this.#options.user;
  }

  /** The gateway. */
  get url() {
    return this.#address;
  }

  /** How it is connected. */
  get state() {
    return this.#state;
  }

  /** By which way, while it is open. @returns {Transport | null} */
  get transport() {
    return this.#state === "open" ? (this.#connection?.transport ?? null) : null;
  }

  /** Up to where the page has dealt with everything; `null` as long as nobody knows. @returns {string | null} */
  get position() {
    return this.#bookmark?.position ?? null;
  }

  /**
   * With `ack: "manual"`: the page has dealt with everything up to here. Old ones and repetitions are harmless; beyond what came
   * it counts as the last that came.
   * @param {string | Notification | Gap} position
   */
  ack(position) {
    const given = typeof position === "string" ? position : position.type === "gap" ? position.until : position.position;
    if (given === undefined || this.#received === null || !isSameEpoch(given, this.#received)) return;
    const reached = isBeyond(given, this.#received) ? this.#received : given;
    const before = this.#acked ?? this.#since;
    if (before !== null && isSameEpoch(reached, before) && !isBeyond(reached, before)) return;
    this.#acked = reached;
    this.#settle();
  }

  /** Leaves the gateway, and keeps its place: what is sent meanwhile waits. */
  pause() {
    this.#whenDelivered(() => {
      if (this.#state === "closed" || this.#state === "paused") return;
      this.#leave();
      this.#change({ state: "paused" });
    });
  }

  /** Comes back behind where it left. */
  resume() {
    this.#whenDelivered(() => {
      if (this.#state !== "paused") return;
      this.#attempt = 0;
      this.#connect();
    });
  }

  /** Leaves for good. What was dealt with is acked; loops over the client end, and what they had not taken waits in the mailbox. */
  close() {
    this.#whenDelivered(() => this.#end());
  }

  /**
   * Notifications and gaps, in order, from now on. Several loops share them. An item is dealt with when its loop asks for the next;
   * one at which a loop was left, by `break` or an exception, is not: the next loop begins with it.
   * @returns {AsyncIterableIterator<Notification | Gap, undefined>}
   */
  [Symbol.asyncIterator]() {
    this.#isLooped = true;
    this.#heard();
    /** What it was given and has not dealt with. @type {Unread[]} */
    let held = [];
    let isOver = false;
    /** @type {AsyncIterableIterator<Notification | Gap, undefined>} */
    const loop = {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () => {
        const done = held;
        held = [];
        this.#dealWith(done);
        return new Promise((resolve, reject) => {
          if (isOver) return resolve({ done: true, value: undefined });
          this.#readers.push({ loop, taken: (unread) => held.push(unread), resolve, reject });
          this.#handOut();
        });
      },
      return: async () => {
        isOver = true;
        for (const unread of held) unread.taken = false;
        held = [];
        const waiting = this.#readers.filter((reader) => reader.loop === loop);
        this.#readers = this.#readers.filter((reader) => reader.loop !== loop);
        for (const reader of waiting) reader.resolve({ done: true, value: undefined });
        this.#handOut();
        return { done: true, value: undefined };
      },
    };
    return loop;
  }

  /**
   * @template {keyof ClientEvents} T
   * @param {T} type
   * @param {((event: ClientEvents[T]) => void) | {handleEvent(event: ClientEvents[T]): void} | null} listener
   * @param {AddEventListenerOptions | boolean} [options]
   * @override
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, /** @type {EventListener} */ (listener), options);
    if (type === "notification") this.#heard();
  }

  /**
   * @template {keyof ClientEvents} T
   * @param {T} type
   * @param {((event: ClientEvents[T]) => void) | {handleEvent(event: ClientEvents[T]): void} | null} listener
   * @param {EventListenerOptions | boolean} [options]
   * @override
   */
  removeEventListener(type, listener, options) {
    super.removeEventListener(type, /** @type {EventListener} */ (listener), options);
  }

  // Connecting, and coming back.

  /** Somebody listens from now on: the first one makes it begin, in a later task. */
  #heard() {
    if (this.#isHeard) return;
    this.#isHeard = true;
    if (this.#state === "connecting") this.#timer = setTimeout(() => this.#connect(), 0);
  }

  async #connect() {
    clearTimeout(this.#timer);
    const generation = ++this.#generation;
    this.#isFull = false;
    this.#change({ state: "connecting" });
    if (!this.#begun) {
      const bookmark = await answerOf(() => this.#options.store.load()).catch(() => null);
      if (generation !== this.#generation) return;
      this.#begun = true;
      this.#beginAt(bookmark);
    }
    // A listener may have had enough.
    if (generation !== this.#generation) return;
    let credential;
    try {
      const refused = this.#wasRefused;
      credential = (await answerOf(() => this.#options.token?.({ refused }))) || undefined;
    } catch (error) {
      if (generation !== this.#generation) return;
      if (error instanceof ConnectionRefused) this.#end(error, error);
      else this.#comeBack({ code: BROKEN, reason: `no token: ${describe(error)}` });
      return;
    }
    if (generation !== this.#generation) return;
    this.#wentOffline = false;
    this.#connection = new Connection(this.#address, this.#options.user, this.#chooseTransport(), credential, {
      frame: (frame) => this.#take(frame),
      ended: (end) => this.#lost(end),
      expiring: () => this.#refresh(),
    });
    this.#connection.open(this.#resume ?? this.#options.after);
  }

  /** Goes on behind what an earlier page has dealt with, or where this one wants to begin. @param {Bookmark | null} bookmark */
  #beginAt(bookmark) {
    const { user, after } = this.#options;
    // What is no position would be refused for ever, and one of somebody else would hide what is this user's.
    if (bookmark && isPosition(bookmark.position) && isPosition(bookmark.since) && (bookmark.user ?? user) === user) {
      this.#bookmark = { position: bookmark.position, since: bookmark.since, user };
      this.#received = this.#resume = this.#acked = bookmark.position;
      this.#since = bookmark.since;
    } else if (after !== undefined && isPosition(after)) {
      this.#received = this.#resume = this.#since = after;
    }
  }

  /** @returns {Transport} */
  #chooseTransport() {
    const { transport } = this.#options;
    if (transport !== "auto") return transport;
    if (typeof WebSocket === "undefined") return "sse";
    return this.#tryStream || now() < this.#streamUntil ? "sse" : "websocket";
  }

  /** The connection is over, without anybody here having asked for it. @param {End} end */
  #lost(end) {
    const connection = /** @type {Connection} */ (this.#connection);
    this.#connection = null;
    clearTimeout(this.#timer);
    const lasted = connection.lasted();
    if (lasted === null) {
      if (this.#options.transport === "auto") this.#countFailure(connection.transport, end);
    } else {
      if (lasted >= SHORT_SESSION_MS) this.#hurried = false;
      if (lasted >= GOOD_SESSION_MS) {
        this.#attempt = 0;
        this.#askedAgain = false;
      }
    }
    if (end.code === INVALID_TOKEN && this.#options.token && !this.#askedAgain) {
      this.#askedAgain = this.#wasRefused = true;
      this.#comeBack(end, 0);
    } else if (end.code >= 4000 && end.code < 4100) {
      this.#end(new ConnectionRefused(end.code, end.reason), end);
    } else if (end.code >= 4200 && end.code < 4300 && !this.#hurried) {
      this.#hurried = true;
      this.#comeBack(end, 0);
    } else if (this.#tryStream && connection.transport === "websocket") {
      this.#comeBack(end, 0);
    } else {
      // The only large frame is the one with a token: from now on a new one means a new session.
      if (end.code === TOO_LARGE) this.#refreshesInPlace = false;
      this.#comeBack(end);
    }
  }

  /** An attempt did not come to life. @param {Transport} transport @param {End} end */
  #countFailure(transport, end) {
    if (transport === "sse") {
      // An answer of the gateway, if only a refusal: streams work.
      if (end.code !== BROKEN) return;
      this.#tryStream = false;
      this.#streamFailed = true;
      this.#streamUntil = 0;
    } else {
      // A close code that came through shows that nothing blocks it.
      this.#blocked = end.code === BROKEN ? this.#blocked + 1 : 0;
      this.#tryStream = this.#blocked >= BLOCKED_AFTER;
    }
  }

  /** Something works. @param {Transport} transport */
  #countSuccess(transport) {
    const wasAway = this.#streamFailed;
    this.#tryStream = this.#streamFailed = false;
    if (transport === "websocket") {
      this.#blocked = 0;
    } else if (this.#options.transport === "auto" && typeof WebSocket !== "undefined") {
      // The next one that fails is enough.
      this.#blocked = BLOCKED_AFTER - 1;
      if (!wasAway) {
        if (now() >= this.#streamUntil) this.#streamUntil = now() + STREAM_PREFERENCE_MS;
        return;
      }
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        this.#leave();
        this.#connect();
      }, STREAM_DOUBT_MS);
    }
  }

  /**
   * Comes back: when the gateway said, or after a pause that grows, with full jitter so that a crowd does not come as one.
   * @param {End} end why it has to
   * @param {number} [pause] in milliseconds
   */
  #comeBack(end, pause) {
    const { minBackoffMs, maxBackoffMs } = this.#options;
    const ownPause = Math.random() * Math.min(maxBackoffMs, minBackoffMs * 2 ** this.#attempt);
    const asked = end.comeBackInMs;
    // Who is sent away again and again waits at least as long as if nobody had said when.
    const advised = asked === undefined || this.#attempt === 0 ? asked : Math.max(asked, ownPause);
    const retryInMs = advised ?? pause ?? ownPause;
    if (pause === undefined || asked !== undefined) this.#attempt = Math.min(this.#attempt + 1, 30);
    this.#mayHurry = asked === undefined;
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), Math.min(retryInMs, MAX_TIMER_MS));
    this.#change({ state: "waiting", code: end.code, reason: end.reason, retryInMs });
  }

  /** Goes away without a further word; what was dealt with is acked before. */
  #leave() {
    this.#flush();
    this.#isFull = false;
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#connection?.leave();
    this.#connection = null;
  }

  /** @param {ConnectionRefused} [error] @param {Pick<End, "code" | "reason">} [end] */
  #end(error, end) {
    if (this.#state === "closed") return;
    this.#leave();
    this.#page.abort();
    this.#error = error;
    this.#unread = this.#unread.filter((unread) => unread.taken);
    this.#change({ state: "closed", code: end?.code, reason: end?.reason, error });
    this.#handOut();
  }

  /** Does it now, or when all listeners have heard of what they are just told: what they deal with now is acked, too. @param {() => void} what */
  #whenDelivered(what) {
    if (!this.#isDelivering) return what();
    const before = this.#afterwards;
    this.#afterwards = () => {
      before?.();
      what();
    };
  }

  /** @param {Omit<StateChange, "transport">} change */
  #change(change) {
    this.#state = change.state;
    this.dispatchEvent(new CustomEvent("state", { detail: { transport: this.transport, ...change } }));
  }

  /** What the page's surroundings tell of the network, and of its own end. */
  #watchPage() {
    const { signal } = this.#page;
    /** @param {string} type @param {() => void} listener @param {EventTarget} [target] */
    const on = (type, listener, target = globalThis) => target.addEventListener?.(type, listener, { signal });
    on("pagehide", () => this.#flush());
    on("offline", () => (this.#wentOffline = true));
    on("online", () => {
      // Whether the line survived nobody can tell; a new one is cheap, since it begins where this one was.
      if (this.#wentOffline && this.#connection) {
        const connection = this.#connection;
        connection.leave();
        this.#connection = null;
        this.#comeBack({ code: BROKEN, reason: "the network was away" }, 0);
      } else {
        this.#hurry();
      }
    });
    const { document } = globalThis;
    const comesBack = () => {
      // Timers stand still while a machine sleeps.
      this.#connection?.look();
      this.#hurry();
    };
    on("pageshow", comesBack);
    if (document) on("visibilitychange", () => (document.visibilityState === "visible" ? comesBack() : this.#flush()), document);
  }

  /** Cuts a pause short: somebody looks, or the network is back. */
  #hurry() {
    if (this.#state === "waiting" && this.#mayHurry && !this.#isFull) this.#connect();
  }

  // What comes.

  /** @param {any} frame */
  #take(frame) {
    switch (frame.type) {
      case "welcome":
        return this.#welcome(frame);
      case "notification":
        return this.#notification(frame);
      case "gap":
        return this.#gap(frame);
    }
  }

  /** @param {Welcome} welcome */
  #welcome({ session, user, position, head, heartbeat_ms }) {
    const connection = /** @type {Connection} */ (this.#connection);
    this.#wasRefused = false;
    this.#countSuccess(connection.transport);
    if (this.#resume === null) {
      this.#resume = this.#received = this.#since = position;
    } else if (!isSameEpoch(position, this.#resume)) {
      // `#resume` stays as it is until the gap has come that tells of it, so that no break can swallow it.
      this.#received = this.#since = position;
      this.#acked = null;
    } else if (this.#received === null || !isSameEpoch(position, this.#received)) {
      this.#received = this.#since = this.#resume;
    }
    this.#change({ state: "open" });
    if (connection !== this.#connection) return;
    this.dispatchEvent(new CustomEvent("welcome", { detail: { session, user, position, head, heartbeat_ms } }));
    this.#settle();
    // The last ack may have been lost with the last connection.
    if (this.#bookmark && this.#bookmark.position !== this.#bookmark.since) this.#schedule();
  }

  /** @param {Notification} frame */
  #notification(frame) {
    const { position, prev } = frame;
    if (position === undefined || prev === undefined) {
      // To everybody who is connected: it moves nothing.
      this.#deliver({ ...frame, replayed: false });
      return;
    }
    const received = /** @type {string} */ (this.#received);
    if (isSameEpoch(position, received) && !isBeyond(position, received)) return;
    if (!isSameEpoch(position, received) || isBeyond(prev, received)) {
      // A hole that nobody announced: ask again from where everything was well.
      this.#connection?.giveUp("something is missing, and no gap told of it");
      return;
    }
    const head = /** @type {Connection} */ (this.#connection).head;
    this.#moveTo(position);
    if (this.#isKnown(frame.id)) return this.#settle();
    this.#deliver({ ...frame, replayed: !isBeyond(position, head) }, received);
  }

  /** Whether a notification came before; from now on it did. @param {string} id */
  #isKnown(id) {
    if (this.#ids.has(id)) return true;
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED_IDS) this.#ids.delete(/** @type {string} */ (this.#ids.values().next().value));
    return false;
  }

  /** @param {Gap} frame */
  #gap({ after, until, count, reason }) {
    const received = /** @type {string} */ (this.#received);
    const isKnown = isSameEpoch(until, received) && !isBeyond(until, received);
    if (isKnown && reason !== "epoch") return;
    if (reason === "epoch") {
      // Nothing that was known holds any more, were it that the log only lost its end.
      this.#since = until;
      this.#acked = null;
      this.#store((store) => store.clear());
    }
    this.#moveTo(until);
    const isLoss = reason === "epoch" || reason === "overflow";
    this.#deliver({ type: "gap", after, until, ...(count === undefined ? {} : { count }), reason, isLoss }, received);
  }

  /** @param {string} position */
  #moveTo(position) {
    this.#received = this.#resume = position;
  }

  /**
   * @param {Notification | Gap} item
   * @param {string} [before] the position before it; none for what moves none
   */
  #deliver(item, before) {
    if (this.#isLooped) this.#unread.push({ item, before: before ?? this.#received, taken: false });
    this.#isDelivering = true;
    this.dispatchEvent(new CustomEvent(item.type, { detail: item }));
    this.#isDelivering = false;
    this.#handOut();
    this.#settle();
    if (this.#unread.length >= MAX_UNREAD) {
      this.#leave();
      this.#isFull = true;
      this.#change({ state: "waiting", reason: "the page does not keep up" });
    }
    const afterwards = this.#afterwards;
    this.#afterwards = null;
    afterwards?.();
  }

  /** A loop is done with these. @param {Unread[]} done */
  #dealWith(done) {
    if (done.length === 0) return;
    this.#unread = this.#unread.filter((unread) => !done.includes(unread));
    this.#settle();
    if (this.#isFull && this.#unread.length <= MAX_UNREAD / 2) this.#connect();
  }

  /** Gives waiting loops what there is for them. */
  #handOut() {
    while (this.#readers.length > 0) {
      const entry = this.#unread.find((unread) => !unread.taken);
      if (!entry && this.#state !== "closed") return;
      const reader = /** @type {Reader} */ (this.#readers.shift());
      if (entry) {
        entry.taken = true;
        reader.taken(entry);
        reader.resolve({ done: false, value: entry.item });
      } else if (this.#error) {
        reader.reject(this.#error);
      } else {
        reader.resolve({ done: true, value: undefined });
      }
    }
  }

  // What was dealt with.

  /** Notes up to where everything was dealt with, to be acked and kept soon. */
  #settle() {
    if (this.#received === null || this.#since === null) return;
    // A loss that was not announced yet is announced again after a break, also to the next page.
    if (this.#resume === null || !isSameEpoch(this.#resume, this.#received)) return;
    const position =
      this.#options.ack === "manual" ? (this.#acked ?? this.#since) : (this.#unread[0]?.before ?? this.#received);
    const { position: known, since } = this.#bookmark ?? {};
    // A loop may still hold what came in another epoch.
    if ((known === position && since === this.#since) || !isSameEpoch(position, this.#since)) return;
    this.#bookmark = { position, since: this.#since, user: this.#options.user };
    this.#schedule();
  }

  #schedule() {
    this.#saved = false;
    if (this.#state === "closed") this.#flush();
    else this.#ackTimer ??= setTimeout(() => this.#flush(), ACK_DELAY_MS);
  }

  #flush() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.#saved || !this.#bookmark) return;
    this.#saved = true;
    const bookmark = this.#bookmark;
    this.#store((store) => store.save({ ...bookmark }));
    if (bookmark.position !== bookmark.since) this.#connection?.ack(bookmark.position, bookmark.since);
  }

  /** A page that cannot keep its place gets more than it needs next time. @param {(store: PositionStore) => unknown} does */
  #store(does) {
    new Promise((resolve) => resolve(does(this.#options.store))).catch(() => {});
  }

  // Tokens.

  /** The token will be over soon: the session goes on with another one. */
  async #refresh() {
    const connection = this.#connection;
    if (!connection || !this.#refreshesInPlace) return;
    /** @type {string | null | undefined} */
    let credential;
    try {
      credential = await answerOf(() => this.#options.token?.({ refused: false }));
    } catch {
      // The old one still holds for a while; in the end the session is closed and the question comes up again.
    }
    if (connection === this.#connection) connection.refresh(credential ?? undefined);
  }
}

// The ways to the gateway.

/**
 * Why a connection ended.
 * @typedef {object} End
 * @property {number} code a close code
 * @property {string} reason
 * @property {number} [comeBackInMs] the gateway said when
 */

/**
 * @typedef {object} Listener
 * @property {(frame: any) => void} frame
 * @property {(end: End) => void} ended once, unless the client leaves
 * @property {() => void} expiring the credential will be over soon
 */

/**
 * What carries frames: a WebSocket or a stream of events.
 * @typedef {object} Link
 * @property {(position: string, since: string) => void} ack
 * @property {(credential: string) => void} refresh
 * @property {() => void} leave
 */

/** One session, from the attempt to its end: whether it lives, when its token is over, when it is to come back. */
class Connection {
  /** The mailbox's last position when the session began. */
  head = "";
  #welcomedAt = 0;
  /** By the clock that stands still in sleep, and by the one that may be set anew. */
  #heardAt = 0;
  #heardAtTime = 0;
  /** How often in a row `token` had nothing new. */
  #fruitless = 0;
  #silenceMs = CONNECT_TIMEOUT_MS;
  /** @type {number | undefined} */
  #comeBackAt;
  /** @type {Link | null} */
  #link = null;
  #isOver = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watch;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #expiry;

  /**
   * @param {string} base
   * @param {string} user
   * @param {Transport} transport
   * @param {string | undefined} credential
   * @param {Listener} listener
   */
  constructor(base, user, transport, credential, listener) {
    this.transport = transport;
    this.base = base;
    this.user = encodeURIComponent(user);
    this.credential = credential;
    this.listener = listener;
  }

  /** @param {string | undefined} after */
  open(after) {
    const query = `?ack=client${after === undefined ? "" : `&after=${encodeURIComponent(after)}`}`;
    /** @type {Listener["frame"]} */
    const frame = (received) => this.#take(received);
    /** @type {Listener["ended"]} */
    const ended = (end) => this.#finish(end);
    this.#heard();
    this.look();
    try {
      this.#link =
        this.transport === "websocket"
          ? openSocket(`${this.base.replace(/^http/, "ws")}/ws/${this.user}${query}`, this.credential, { frame, ended })
          : openStream(this.base, this.user, query, this.credential, { frame, ended });
    } catch (error) {
      // A page may be forbidden to open it, or the credential be none that fits into a header.
      setTimeout(() => this.#finish({ code: BROKEN, reason: describe(error) }), 0);
    }
  }

  /** How long the session has lived, in milliseconds; `null` if it never did. */
  lasted() {
    return this.#welcomedAt === 0 ? null : now() - this.#welcomedAt;
  }

  /** @param {string} position @param {string} since */
  ack(position, since) {
    if (this.#welcomedAt !== 0) this.#link?.ack(position, since);
  }

  /** @param {string | undefined} credential the next one, if there is one */
  refresh(credential) {
    if (this.#isOver) return;
    if (credential === undefined || credential === this.credential) {
      this.#fruitless += 1;
      this.#expireAt(this.credential ? expiryOf(this.credential) : undefined);
    } else {
      // Should no answer come, the session ends with the old one.
      this.credential = credential;
      this.#link?.refresh(credential);
    }
  }

  /** Ends it: nobody is told any more. */
  leave() {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#watch);
    clearTimeout(this.#expiry);
    this.#link?.leave();
  }

  /** Ends it as if it had broken. @param {string} reason */
  giveUp(reason) {
    this.#finish({ code: BROKEN, reason });
  }

  /** @param {any} frame */
  #take(frame) {
    if (this.#isOver) return;
    this.#heard();
    switch (frame?.type) {
      case "welcome":
        this.head = frame.head;
        this.#welcomedAt = now();
        this.#silenceMs = (frame.heartbeat_ms > 0 ? frame.heartbeat_ms : HEARTBEAT_MS) * HEARTBEATS_TO_WAIT;
        this.look();
        if (this.transport === "websocket") this.#expireAt(this.credential ? expiryOf(this.credential) : undefined);
        break;
      case "drain":
        if (frame.reconnect_in_ms >= 0) this.#comeBackAt = now() + frame.reconnect_in_ms;
        return;
      case "close":
        // What a socket says by its close frame.
        return this.#finish({ code: frame.code, reason: String(frame.reason ?? "") });
      case "refreshed":
        this.#fruitless = 0;
        this.#expireAt(Date.parse(frame.expires_at));
        return;
    }
    // Before `welcome` nothing means anything.
    if (this.#welcomedAt !== 0) this.listener.frame(frame);
  }

  /** @param {End} end */
  #finish(end) {
    if (this.#isOver) return;
    this.leave();
    const comeBackInMs = this.#comeBackAt === undefined ? end.comeBackInMs : Math.max(0, this.#comeBackAt - now());
    this.listener.ended({ ...end, comeBackInMs });
  }

  #heard() {
    this.#heardAt = now();
    this.#heardAtTime = Date.now();
  }

  /** Looks whether the line still lives, when it would have been silent for too long. */
  look() {
    if (this.#isOver) return;
    clearTimeout(this.#watch);
    const silentMs = Math.max(now() - this.#heardAt, Date.now() - this.#heardAtTime);
    const rest = this.#silenceMs - silentMs;
    if (rest <= 0) {
      const isNew = this.#welcomedAt === 0;
      this.giveUp(isNew ? "the gateway does not answer" : "the line is dead: no heartbeat came");
    } else {
      this.#watch = setTimeout(() => this.look(), Math.min(rest, MAX_TIMER_MS));
    }
  }

  /** @param {number | undefined} time by the clock, in milliseconds; `undefined`: nobody knows */
  #expireAt(time) {
    clearTimeout(this.#expiry);
    // One that is over already was accepted all the same: the clocks differ, and the gateway will say when.
    if (time === undefined || !(time > Date.now())) return;
    const rest = time - Date.now();
    // Spread, because tokens that were made at once are over at once.
    const lead = Math.min(REFRESH_LEAD_MS, rest / 5) * (1 + Math.random());
    const pause = Math.max(rest - lead, REFRESH_PAUSE_MS * 2 ** this.#fruitless);
    this.#expiry = setTimeout(() => this.listener.expiring(), Math.min(pause, MAX_TIMER_MS));
  }
}

/**
 * @param {string} address
 * @param {string | undefined} credential
 * @param {Pick<Listener, "frame" | "ended">} listener
 * @returns {Link}
 */
function openSocket(address, credential, { frame, ended }) {
  // A page cannot set headers here, and addresses end up in logs.
  const socket = new WebSocket(address, credential ? ["notify.v1", `bearer.${credential}`] : ["notify.v1"]);
  /** @param {object} message */
  const say = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  socket.onmessage = ({ data }) => frame(parse(data));
  socket.onclose = ({ code, reason }) => ended({ code, reason: reason || reasonOf(code) });
  return {
    ack: (position, after) => say({ type: "ack", position, after }),
    refresh: (token) => say({ type: "refresh", token }),
    leave() {
      socket.onmessage = socket.onclose = null;
      if (socket.readyState !== WebSocket.CONNECTING) {
        socket.close(1000);
        return;
      }
      // Browsers complain of a socket that is closed before it is open. One that never opens would keep the next from opening.
      const patience = setTimeout(() => socket.close(), 2_000);
      socket.onopen = () => {
        clearTimeout(patience);
        socket.close(1000);
      };
      socket.onerror = () => clearTimeout(patience);
    },
  };
}

/**
 * By `fetch`, not by `EventSource`: that one can show no credential and does not say why it was refused.
 * @param {string} base
 * @param {string} user
 * @param {string} query
 * @param {string | undefined} credential
 * @param {Pick<Listener, "frame" | "ended">} listener
 * @returns {Link}
 */
function openStream(base, user, query, credential, { frame, ended }) {
  const abort = new AbortController();
  /** @type {Record<string, string>} */
  const authorization = credential ? { Authorization: `Bearer ${credential}` } : {};

  const receive = async () => {
    const headers = { Accept: "text/event-stream", ...authorization };
    const address = `${base}/sse/${user}${query}`;
    const response = await fetch(address, { headers, signal: abort.signal, cache: "no-store" });
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
    if (!response.ok || !isStream || !response.body) return refusal(response);
    for await (const event of eventsOf(response.body)) frame(parse(event));
    return { code: BROKEN, reason: "the stream ended" };
  };
  receive().then(ended, (error) => ended({ code: BROKEN, reason: describe(error) }));

  /** @type {{position: string, after: string} | null} */
  let due = null;
  let isAcking = false;
  const sendAcks = async () => {
    if (isAcking) return;
    isAcking = true;
    let pause = ACK_PAUSE_MS;
    while (due !== null) {
      const ack = due;
      due = null;
      const headers = { "Content-Type": "application/json", ...authorization };
      const body = JSON.stringify(ack);
      try {
        const signal = AbortSignal.timeout(ACK_TIMEOUT_MS);
        // `keepalive`: the last one outlives the page.
        const answer = await fetch(`${base}/v1/users/${user}/acks`, { method: "POST", headers, body, signal, keepalive: true });
        if (answer.status === 401) ended(await refusal(answer));
        if (answer.status >= 500 || answer.status === 429 || answer.status === 408) throw new Error(answer.statusText);
        pause = ACK_PAUSE_MS;
      } catch {
        if (abort.signal.aborted) break;
        // Acks are cumulative: a later one may have come meanwhile.
        due ??= ack;
        await new Promise((resolve) => setTimeout(resolve, pause * (1 + Math.random())));
        pause = Math.min(pause * 2, MAX_ACK_PAUSE_MS);
      }
    }
    isAcking = false;
  };
  return {
    ack(position, after) {
      due = { position, after };
      void sendAcks();
    },
    // Nothing goes back on a stream: it ends with its credential, and the next one begins with another.
    refresh() {},
    leave: () => abort.abort(),
  };
}

/** What a refused stream means, in the words of a socket. @param {Response} response @returns {Promise<End>} */
async function refusal(response) {
  // Whatever else stands in the way, such as a page that wants one to sign in to a network, knows nothing of the gateway.
  const isOurs = response.headers.get("content-type")?.startsWith("application/problem+json");
  const problem = isOurs ? await response.json().catch(() => ({})) : {};
  const reason = problem?.detail || `${response.status} ${response.statusText}`.trim();
  const code = isOurs ? ({ 400: 4000, 401: INVALID_TOKEN, 403: 4003 }[response.status] ?? OVERLOADED) : BROKEN;
  const retryAfterMs = Math.min(Number(response.headers.get("retry-after")) * 1_000, MAX_RETRY_AFTER_MS);
  // The same number is told to everybody who asks at that moment.
  return { code, reason, ...(retryAfterMs > 0 ? { comeBackInMs: retryAfterMs * (1 + Math.random()) } : {}) };
}

/**
 * The data of each event of a stream (HTML Living Standard §9.2.6). Names and ids are in it, too.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<string>}
 */
async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
      rest = /** @type {string} */ (lines.pop());
      for (const line of lines) {
        if (line.startsWith("data:")) data += line.slice(5).trimStart();
        else if (line === "" && data !== "") {
          yield data;
          data = "";
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Where positions are kept.

/** Forgets everything with the page. @returns {PositionStore} */
export function memoryStore() {
  /** @type {Bookmark | null} */
  let kept = null;
  return { load: () => kept, save: (bookmark) => (kept = bookmark), clear: () => (kept = null) };
}

/**
 * Survives the page, in the browser's `localStorage`; the tabs of one browser share it, and it only goes forward.
 * @param {string} key one for each user, such as `notifications:bob`
 * @returns {PositionStore}
 */
export function localStore(key) {
  const load = () => {
    try {
      return JSON.parse(localStorage.getItem(key) ?? "null");
    } catch {
      return null;
    }
  };
  return {
    load,
    save(bookmark) {
      const kept = load();
      const isOld = isPosition(kept?.position) && isSameEpoch(kept.position, bookmark.position) && !isBeyond(bookmark.position, kept.position);
      if (!isOld) localStorage.setItem(key, JSON.stringify(bookmark));
    },
    clear: () => localStorage.removeItem(key),
  };
}

// Positions: `<epoch>-<number>`. Numbers have up to twenty digits, more than a number of JavaScript holds.

/** @param {unknown} text */
const isPosition = (text) => typeof text === "string" && /^[0-9a-z]{13}-(0|[1-9][0-9]{0,19})$/.test(text);

/** Whether they can be compared. @param {string} one @param {string} other */
export const isSameEpoch = (one, other) => one.slice(0, one.indexOf("-")) === other.slice(0, other.indexOf("-"));

/** Of two positions of one epoch. @param {string} one @param {string} other */
export const isBeyond = (one, other) => BigInt(one.slice(one.indexOf("-") + 1)) > BigInt(other.slice(other.indexOf("-") + 1));

/** Where the gateway is. @param {string | URL | undefined} url */
function gatewayAt(url) {
  // Only if it has to be known: in some bundles a module has no address.
  const gateway = url ?? new URL(import.meta.url).origin;
  if (gateway === "null") throw new TypeError("NotificationClient: say the `url` of the gateway");
  return new URL(gateway, globalThis.location?.href).href.replace(/\/+$/, "");
}

/**
 * What the page answers, if it does so in time.
 * @template T
 * @param {() => T | Promise<T>} ask
 * @returns {Promise<T>}
 */
function answerOf(ask) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the page did not answer in time")), PAGE_TIMEOUT_MS);
    const answer = new Promise((answered) => answered(ask()));
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Time that a clock set anew does not change, in milliseconds. */
const now = () => performance.now();

/** A frame that is none is of no type. @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {unknown} error */
const describe = (error) => (error instanceof Error ? error.message : String(error));

/** @param {number} code */
const reasonOf = (code) => (code === BROKEN ? "the connection broke, or could not be made" : "");

/** When a token is over, in milliseconds of the clock, if it is one that says so (RFC 7519 §4.1.4). @param {string} credential */
function expiryOf(credential) {
  try {
    const payload = credential.split(".")[1] ?? "";
    const { exp } = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof exp === "number" ? exp * 1_000 : undefined;
  } catch {
    return undefined;
  }
}
