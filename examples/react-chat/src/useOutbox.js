import { useEffect, useRef, useState, useSyncExternalStore } from "react";

import { Outbox } from "./outbox.js";

/**
 * The outbox of a user, as state of a component that is keyed by the user.
 *
 * `items` are the notifications that came, copies of what was sent among them; `peer` is whose conversation is open, or `null`.
 */
export function useOutbox({ url, user, token, items, peer }) {
  const latestToken = useRef(token);
  useEffect(() => {
    latestToken.current = token;
  });
  const [outbox] = useState(() => new Outbox({ url, user, token: async () => latestToken.current?.() }));
  const messages = useSyncExternalStore(outbox.subscribe, outbox.messages);

  useEffect(() => {
    outbox.hear(items);
  }, [outbox, items]);
  useEffect(() => {
    outbox.watch(peer);
    return () => outbox.watch(null);
  }, [outbox, peer]);
  useEffect(() => () => outbox.stop(), [outbox]);

  return { outbox, messages };
}
