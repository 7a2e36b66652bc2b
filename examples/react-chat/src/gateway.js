/** Where the gateway is, and what it takes for the name of a user. */

const DEFAULT_ADDRESS = "http://127.0.0.1:8000";
const MAX_USER_ID_BYTES = 256;

export const gatewayUrl = address();

function address() {
  // A built page does not listen to its own address: a link could send the visitor's token to a gateway of its author.
  const asked = import.meta.env.DEV ? new URLSearchParams(location.search).get("gateway") : null;
  const found = [asked, import.meta.env.VITE_GATEWAY_URL].find((url) => url && /^https?:/.test(url) && URL.canParse(url));
  return (found ?? DEFAULT_ADDRESS).replace(/\/+$/, "");
}

/** What is wrong with a user id, in words; `null` if nothing is. */
export function wrongWithUser(name) {
  if (name === "") return "Enter a name.";
  if (name === "." || name === "..") return "A name of dots alone cannot stand in an address.";
  if (/\p{Cc}/u.test(name)) return "A name has no control characters.";
  if (new TextEncoder().encode(name).length > MAX_USER_ID_BYTES) return `A name has at most ${MAX_USER_ID_BYTES} bytes.`;
  return null;
}
