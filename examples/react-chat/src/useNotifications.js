import { useEffect, useEffectEvent, useState } from "react";
import { NotificationClient, localStore } from "notification-client";

const CONNECTING = { state: "connecting" };
const NOTHING = [];
const MAX_ITEMS = 500;

/**
 * A user's notifications, as state of a component that is keyed by the user: one connection as long as it is mounted.
 *
 * Under StrictMode an effect runs, is cleaned up and runs again. A client that is closed in the turn that made it never connects,
 * so that one session is held all the same. `token` may be another function at every render: the latest one is asked.
 *
 * @param {{url: string, user: string, token?: () => Promise<string | undefined>}} options
 * @returns `items`: notifications and gaps, oldest first · `connection`: the client's last `state` event · `start`: the position at
 *   which they begin, or `null` before that is known · `refusal`: why the gateway does not want this user (`code`, `reason`), or
 *   `null` · `connectAgain`: begins anew after a refusal
 */
export function useNotifications({ url, user, token }) {
  const [items, setItems] = useState(NOTHING);
  const [connection, setConnection] = useState(CONNECTING);
  const [start, setStart] = useState(null);
  const [attempt, setAttempt] = useState(0);
  const askToken = useEffectEvent(async () => token?.());

  useEffect(() => {
    // Also after a refusal: another tab may have moved the position meanwhile, and what it has had is no longer news for this one.
    setItems(NOTHING);
    setStart(null);
    setConnection(CONNECTING);
    // The position outlives the page: only one that knows where it was is told what went missing while it was closed.
    const store = localStore(`notifications ${url} ${user}`);
    const client = new NotificationClient({ url, user, store, token: () => askToken() });
    const add = ({ detail }) => setItems((before) => [...before, detail].slice(-MAX_ITEMS));
    client.addEventListener("notification", add);
    client.addEventListener("gap", add);
    client.addEventListener("state", ({ detail }) => setConnection(detail));
    client.addEventListener("welcome", ({ detail }) => setStart((before) => before ?? detail.position));
    return () => client.close();
  }, [url, user, attempt]);

  const connectAgain = () => setAttempt((before) => before + 1);
  return { items, connection, start, refusal: connection.error ?? null, connectAgain };
}
