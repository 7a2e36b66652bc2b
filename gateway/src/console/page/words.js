// @ts-check
/**
 * What the gateway says in codes and numbers, in words for people.
 */

/** @typedef {import("/client.js").Gap} Gap */
/** @typedef {import("/client.js").Transport} Transport */

/**
 * What each operation takes where the gateway has keys; the README has it under *Who may send and listen*.
 */
export const NEEDS = {
  send: "Sending takes an API key with the scope send, or a token with send in its scope.",
  outcomes: "Outcomes take an API key with the scope send, read or admin.",
  withdraw: "Withdrawing takes an API key with the scope send or admin.",
  watch: "Mailboxes and topics are shown to an API key with the scope read or admin.",
  live: "Sessions and rates are shown to an API key with the scope read or admin.",
  topics: "Changing topics takes an API key with the scope admin.",
  listen: "Receiving takes a token of this very user, or an API key with the scope read.",
};

/** Close codes of `notify.v1`, as `/asyncapi.yaml` lists them. */
const CLOSES = new Map([
  [1000, "closed"],
  [1001, "the gateway went away"],
  [1002, "the protocol was broken"],
  [1003, "a frame of an unknown type"],
  [1006, "the connection broke"],
  [1007, "a frame that is no JSON"],
  [1008, "too many frames at once"],
  [1009, "a frame that is too large"],
  [1011, "the gateway failed on this connection"],
  [1012, "the gateway restarts"],
  [1013, "the gateway is overloaded"],
  [4000, "the request is not understood"],
  [4001, "the credential is missing, wrong or over"],
  [4003, "the credential or this page may not receive for this user"],
  [4009, "the user opened too many sessions, and this one was silent longest"],
  [4010, "an administrator disconnected the user"],
  [4108, "the connection took no bytes for ten seconds"],
  [4112, "this page did not answer a heartbeat"],
  [4205, "the token is over"],
]);

/**
 * Why a connection ended.
 * @param {number | undefined} code
 * @param {string | undefined} reason what came with it
 */
export function closed(code, reason) {
  const words = CLOSES.get(code ?? 0) ?? reason ?? "";
  const known = code === undefined ? "" : ` (${code})`;
  return `${words || "it ended"}${known}`;
}

/** Why notifications will not come. */
const REASONS = {
  epoch: "the gateway's log was replaced or begun anew",
  overflow: "the mailbox was full",
  expired: "the time to live was over",
  withdrawn: "taken back by the sender",
  collapsed: "replaced by a later one with the same collapse key",
  acked: "acked before, or on another device",
};

/** @param {Gap} gap */
export function gapTitle({ count, isLoss }) {
  const some = count === undefined ? "Notifications" : plural(count, "notification");
  return isLoss ? `Lost: ${count === undefined ? "an unknown number" : some}` : `Gap: ${some} will not come`;
}

/** @param {Gap} gap */
export function gapReason({ reason }) {
  return `${reason}: ${REASONS[reason] ?? "no reason that this page knows"}`;
}

/** @param {Transport | null} transport */
export function via(transport) {
  return transport === "sse" ? "SSE" : "WebSocket";
}

/** What is wrong with a name, by the gateway's rule for users and topics; empty if nothing is. @param {string} name */
export function nameProblem(name) {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length === 0) return "A name is missing.";
  if (bytes.length > 256) return "A name has at most 256 bytes.";
  if (name === "." || name === "..") return "A name is neither “.” nor “..”.";
  if (/\p{Cc}/u.test(name)) return "A name has no control characters.";
  if (new TextDecoder().decode(bytes) !== name) return "A name is whole Unicode text.";
  return "";
}

/** @param {number} value */
export function number(value) {
  return NUMBER.format(value);
}

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });

/**
 * "1 notification", "2 notifications".
 * @param {number} count
 * @param {string} thing
 */
export function plural(count, thing) {
  return `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
}

/** How long something took or lasts. @param {number} milliseconds never shown as less than nothing */
export function duration(milliseconds) {
  const time = Math.max(0, milliseconds);
  if (time < 10) return `${number(time)} ms`;
  if (time < 1_000) return `${Math.round(time)} ms`;
  if (time < 10_000) return `${number(time / 1_000)} s`;
  return age(Math.round(time / 1_000));
}

/** How long something has been so, in whole units. @param {number} seconds a whole number */
export function age(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
