// @ts-check
/**
 * What a credential says about itself. It is read to help whoever pasted it; whether it is good only the gateway knows.
 */

/** @typedef {"none" | "key" | "token" | "malformed"} CredentialKind */

/** What was put into a field: people copy the word in front of it, and the end of the line. @param {HTMLInputElement} field */
export function credentialIn(field) {
  return field.value.trim().replace(/^bearer\s+/i, "");
}

/** Tokens have three parts with dots between; API keys have none. @param {string} credential @returns {CredentialKind} */
export function kindOf(credential) {
  if (credential === "") return "none";
  if (!/^[\w.~+/=-]+$/.test(credential)) return "malformed";
  return credential.split(".").length === 3 ? "token" : "key";
}

/**
 * What it is, in words: of whom a token is, and until when it holds.
 * @param {string} credential
 * @param {number} now in milliseconds of the clock
 */
export function described(credential, now) {
  switch (kindOf(credential)) {
    case "none":
      return "";
    case "malformed":
      return "This is neither an API key nor a token.";
    case "key":
      return "An API key.";
    case "token": {
      const { sub, exp, scope } = claimsOf(credential);
      if (sub === undefined) return "A token that cannot be read.";
      const sends = scope?.split(" ").includes("send") ? `, may send as ${sub}` : "";
      if (exp === undefined) return `A token of ${sub}${sends}.`;
      const end = DATE.format(new Date(exp * 1_000));
      return isOver(credential, now) ? `A token of ${sub}, over since ${end}.` : `A token of ${sub}${sends}, good until ${end}.`;
    }
  }
}

/** Whether it is a token whose end has come. @param {string} credential @param {number} now in milliseconds of the clock */
export function isOver(credential, now) {
  const { exp } = claimsOf(credential);
  return exp !== undefined && exp * 1_000 <= now;
}

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/**
 * The payload of a JWT (RFC 7519), as far as it is shown.
 * @param {string} token
 * @returns {{sub?: string, exp?: number, scope?: string}}
 */
function claimsOf(token) {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const { sub, exp, scope } = JSON.parse(new TextDecoder().decode(bytes));
    return {
      ...(typeof sub === "string" ? { sub } : {}),
      // Beyond it no date can be written.
      ...(typeof exp === "number" && Math.abs(exp) < 8.64e12 ? { exp } : {}),
      ...(typeof scope === "string" ? { scope } : {}),
    };
  } catch {
    return {};
  }
}
