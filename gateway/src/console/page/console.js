// @ts-check
/**
 * The console: puts the parts of the page together.
 *
 * `gateway.js` asks the gateway, `panes.js` receives, `sender.js` and `sent.js` send and follow, `stats.js` watches.
 */

import { credentialIn, described } from "./credential.js";
import { byId, say } from "./elements.js";
import { Gateway } from "./gateway.js";
import { SendTimes } from "./latency.js";
import { Panes } from "./panes.js";
import { Sender } from "./sender.js";
import { SentList } from "./sent.js";
import { LiveStats } from "./stats.js";

const COUNTDOWN_EVERY_MS = 500;

const gateway = new Gateway();
const sendTimes = new SendTimes();
const sent = new SentList(gateway, sendTimes);
const sender = new Sender((request) => sent.send(request, sender));
new Panes({ gateway, sendTimes, onArrival: (id) => sent.hurry(id) });
new LiveStats(gateway);

const credential = byId("credential", HTMLInputElement);
const credentialForm = byId("credential-form", HTMLFormElement);
credentialForm.addEventListener("submit", (event) => {
  event.preventDefault();
  useCredential();
});
credential.addEventListener("input", () => showCredential());
credential.addEventListener("change", () => useCredential());

gateway.addEventListener("change", () => showGateway());
gateway.addEventListener("pause", () => showGateway());
setInterval(() => {
  if (gateway.isAway) showGateway();
}, COUNTDOWN_EVERY_MS);
showCredential();
void gateway.look();

/** Whether the gateway is there, what it is, and where more is to be read. */
function showGateway() {
  const { about, isAway, hasKeys, nextTryAt } = gateway;
  const rest = Math.max(0, Math.ceil((nextTryAt - performance.now()) / 1_000));
  const state = isAway ? "away" : "running";
  byId("gateway-state", HTMLElement).dataset.state = state;
  // Only the word is read aloud, not every second that passes.
  say(byId("gateway-word", HTMLElement), state);
  say(byId("gateway-countdown", HTMLElement), isAway ? `· next try ${rest > 0 ? `in ${rest} s` : "now"}` : "");
  document.body.classList.toggle("away", isAway);
  if (!about) return;
  byId("version", HTMLElement).textContent = about.version;
  showLink(byId("metrics-link", HTMLAnchorElement), about.metrics_url);
  showLink(byId("grafana-link", HTMLAnchorElement), about.grafana_url);
  credentialForm.hidden = !hasKeys;
}

/** @param {HTMLAnchorElement} link @param {string | null} address */
function showLink(link, address) {
  const isPage = address !== null && /^https?:/.test(address);
  link.hidden = !isPage;
  if (isPage) link.href = address;
}

function useCredential() {
  gateway.credential = credentialIn(credential);
}

function showCredential() {
  const nothing =
    "For sending and watching: the README says under “Who may send and listen” how to get one. It stays in this page's memory.";
  say(byId("credential-kind", HTMLElement), described(credentialIn(credential), Date.now()) || nothing);
}
