/**
 * From what came and what was written to what is shown. Only functions of their arguments.
 *
 * Notifications come in the gateway's order, the order of their positions, and stay in it; what is not accepted yet stands
 * behind them.
 */

import { keyOf } from "./outbox.js";

/** Gaps that a person wants to know of. What others of one's own devices have read, or what was replaced, is none. */
const TOLD = new Set(["epoch", "overflow", "expired", "withdrawn"]);

/**
 * @typedef {object} Row
 * @property {"message" | "gap"} kind
 * @property {string} name for React, the same before and after the gateway accepted it
 * @property {string} [id]
 * @property {string} [from]
 * @property {boolean} [isMine]
 * @property {string} [title]
 * @property {string} [text]
 * @property {Date} [at]
 * @property {"sending" | "accepted" | "seen" | "failed" | "received"} [status]
 * @property {string} [reason] why it failed
 * @property {string} [key] of one that was written on this page
 * @property {object} [gap]
 */

/**
 * All conversations of a user, the one with the latest message first; the open one also if it is empty.
 * @returns {{peer: string, rows: Row[]}[]}
 */
export function conversationsOf(items, messages, me, open) {
  const written = new Map(messages.map((message) => [message.key, message]));
  const conversations = new Map();
  const gaps = [];
  const names = new Set();
  const rowsOf = (peer) => {
    // A hole is one in all conversations: nobody knows whose messages are missing.
    if (!conversations.has(peer)) conversations.set(peer, [...gaps]);
    return conversations.get(peer);
  };
  const add = (peer, row) => {
    const rows = rowsOf(peer);
    rows.push(row);
    // The latest one goes to the end.
    conversations.delete(peer);
    conversations.set(peer, rows);
  };

  for (const item of items) {
    if (item.type === "gap") {
      if (!TOLD.has(item.reason)) continue;
      const row = { kind: "gap", name: `gap ${item.until}`, gap: item };
      gaps.push(row);
      for (const rows of conversations.values()) rows.push(row);
      continue;
    }
    const row = rowOf(item, written.get(keyOf(item)), me);
    // A gateway that has lost its log tells again, at other positions, what came before; and what was sent again to it, under a
    // key that it had lost as well, has another id.
    if (names.has(row.name)) continue;
    names.add(row.name);
    add(peerOf(item, me), row);
  }
  for (const message of messages) {
    const row = rowOfWritten(message, me);
    if (!names.has(row.name)) add(message.peer, row);
  }
  if (open !== null) rowsOf(open);
  return Array.from(conversations, ([peer, rows]) => ({ peer, rows })).reverse();
}

/** How many messages of the peer came behind the one that was read last. */
export function countUnread(rows, lastRead) {
  return rows.slice(rows.findLastIndex(({ id }) => id && id === lastRead) + 1).filter(({ isMine }) => isMine === false).length;
}

/** The last message of the peer. */
export function lastOfPeer(rows) {
  return rows.findLast(({ isMine }) => isMine === false);
}

/** In whose conversation a notification belongs. */
function peerOf(notification, me) {
  if (notification.from !== me) return notification.from ?? "";
  const to = notification.data?.chat?.to;
  return typeof to === "string" ? to : me;
}

function rowOf(notification, message, me) {
  const { id, from = "", title, body, data, sent_at } = notification;
  const isMine = from === me;
  const key = keyOf(notification);
  return {
    kind: "message",
    name: key ? nameOf(from, key) : id,
    id,
    from,
    isMine,
    title,
    // Not every sender is a chat: what has no text shows what it has.
    text: body ?? (title || data === undefined ? "" : JSON.stringify(data)),
    at: new Date(sent_at),
    // What another tab has sent, or this one before a reload, was accepted, or it would not be here.
    status: isMine ? (message?.status ?? "accepted") : "received",
    ...(isMine && message ? { key, reason: message.reason } : {}),
  };
}

function rowOfWritten({ key, id, text, writtenAt, status, reason }, me) {
  return {
    kind: "message",
    name: nameOf(me, key),
    key,
    id,
    from: me,
    isMine: true,
    text,
    at: writtenAt,
    status: status === "waiting" ? "sending" : status,
    reason,
  };
}

/** A key is only as good as its maker: one sender cannot hide what another one sent. */
const nameOf = (from, key) => JSON.stringify([from, key]);
