// @ts-check
/**
 * The console: puts the parts of the page together.
 *
 * `gateway.js` asks the gateway, `panes.js` receives, `sender.js` and `sent.js` send and follow, `stats.js` watches.
 */

import { described } from "./credential.js";
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
  const state = byId("gateway-state", HTMLElement);
  const rest = Math.max(0, Math.ceil((nextTryAt - performance.now()) / 1_000));
  const text = isAway ? `away, next try ${rest > 0 ? `in ${rest} s` : "now"}` : "running";
  state.dataset.state = isAway ? "away" : "running";
  if (state.textContent !== text) state.textContent = text;
  document.body.classList.toggle("away", isAway);
  if (!about) return;
  byId("version", HTMLElement).textContent = about.version;
  showLink(byId("metrics-link", HTMLAnchorElement), about.metrics_url);
  showLink(byId("grafana-link", HTMLAnchorElement), about.grafana_url);
  credentialForm.hidden = !hasKeys;
}

/** @param {HTMLAnchorElement} link @param {string | null} address */
function showLink(link, address) {
  link.hidden = !address || !/^https?:/.test(address);
  if (address) link.href = address;
}

function useCredential() {
  gateway.credential = credential.value.trim();
}

function showCredential() {
  const given = credential.value.trim();
  const nothing = "For sending and watching. It stays in this page's memory, and is gone with it.";
  say(byId("credential-kind", HTMLElement), described(given, Date.now()) || nothing);
}
