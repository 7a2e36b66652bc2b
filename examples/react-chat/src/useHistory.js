import { useEffect, useState } from "react";

import { readHistory } from "./history.js";

const NOTHING = [];
const MAX_ITEMS = 500;

/**
 * What a page has had before it was loaded, as far as the mailbox still keeps it: notifications and gaps, oldest first. As state of
 * a component that is keyed by the user.
 *
 * `until` is where the session began, `null` before that is known: what follows is the session's. It is asked for once, and again
 * after a break if it could not be had; `isOpen` tells when there is somebody to ask.
 */
export function useHistory({ url, user, token, until, isOpen }) {
  const [history, setHistory] = useState({ until: null, items: NOTHING });
  const isMissing = isOpen && until !== null && history.until !== until;

  // Another `token` is no reason to ask again.
  useEffect(() => {
    if (!isMissing) return;
    const over = new AbortController();
    const read = async () => {
      const items = await readHistory({ url, user, token, until, signal: over.signal });
      if (items) setHistory({ until, items: items.slice(-MAX_ITEMS) });
    };
    void read();
    return () => over.abort();
  }, [url, user, until, isMissing]);

  return history.until === until ? history.items : NOTHING;
}
