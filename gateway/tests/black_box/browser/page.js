// What runs on the page of a test: receivers, and a record of everything that each of them was told.

import { NotificationClient, localStore } from "/client.js";

const receivers = new Map();

/** What can leave the page as JSON; an error is told by its name and what it says of itself. */
function told(detail) {
  if (!detail.error) return { ...detail };
  const { name, message, code, reason } = detail.error;
  return { ...detail, error: { name, message, code, reason } };
}

/**
 * Starts a client and records what it tells, and up to where it took everything for dealt with then. Of the options, `tokens` are handed out one after the other, the last one for
 * ever, and `storage` is the key of a `localStore`; the client has the others as they are.
 */
function listen(name, { tokens, storage, ...options }) {
  const receiver = { events: [], asked: 0, items: [], ended: false, thrown: null };
  if (tokens) {
    receiver.tokens = tokens;
    options.token = async () => {
      receiver.asked += 1;
      return receiver.tokens.length > 1 ? receiver.tokens.shift() : receiver.tokens[0];
    };
  }
  if (storage) options.store = localStore(storage);
  receiver.client = new NotificationClient(options);
  for (const type of ["welcome", "notification", "gap", "state"]) {
    receiver.client.addEventListener(type, ({ detail, target }) => {
      receiver.events.push({ event: type, dealtWith: target.position, ...told(detail) });
    });
  }
  receivers.set(name, receiver);
  return receiver.client;
}

/** Asks a client's iterator for the next item, and records what comes of it. */
function next(name) {
  const receiver = receivers.get(name);
  receiver.iterator ??= receiver.client[Symbol.asyncIterator]();
  receiver.iterator.next().then(
    ({ done, value }) => (done ? (receiver.ended = true) : receiver.items.push(value)),
    (error) => (receiver.thrown = told({ error }).error),
  );
}

/** The events of one kind that a client told, in order. */
function events(name, type) {
  return receivers.get(name).events.filter(({ event }) => event === type);
}

window.receivers = receivers;
window.page = { listen, next, events };
