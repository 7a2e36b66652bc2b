import { useEffect, useState } from "react";

/**
 * Up to where each conversation was read: the id of the peer's last message on a page that somebody could see.
 *
 * Kept in `localStorage`, so that it survives a reload and holds in all tabs. It is a convenience of this page; what the gateway
 * knows of a message, that it was acked, is another matter.
 */
export function useReadMarks(storageKey) {
  const [marks, setMarks] = useState(() => load(storageKey));

  useEffect(() => {
    const changed = ({ key }) => key === storageKey && setMarks(load(storageKey));
    addEventListener("storage", changed);
    return () => removeEventListener("storage", changed);
  }, [storageKey]);

  const markRead = (peer, id) => {
    // Other tabs may have read other conversations meanwhile.
    const next = { ...load(storageKey), [peer]: id };
    try {
      localStorage.setItem(storageKey, JSON.stringify(next));
    } catch {
      // Without storage the marks last as long as the page.
    }
    setMarks((before) => ({ ...before, ...next }));
  };
  return [marks, markRead];
}

function load(storageKey) {
  try {
    return JSON.parse(localStorage.getItem(storageKey)) ?? {};
  } catch {
    return {};
  }
}
