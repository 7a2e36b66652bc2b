//! In a real browser: what runs on a page, tried in a headless Chromium against the real gateway.
//!
//! `chrome` starts browsers and drives them, `sights` judges what their developer tools saw, `page` serves a page with receivers
//! on it. `proxy` is a bad network, `guarded` a gateway that asks for credentials, and `scripted` one that says what the test
//! wants. Of the others, `client_…` test one promise of the client each, `console_…` what a person does on the console, and
//! `react` the example of a chat.

mod chrome;
mod client_begins;
mod client_falls_back;
mod client_follows;
mod client_iterates;
mod client_receives;
mod client_restarts;
mod client_returns;
mod client_survives;
mod client_tokens;
mod console_endures;
mod console_sends;
mod guarded;
mod page;
mod proxy;
mod react;
mod scripted;
mod sights;

use std::future::Future;
use std::time::Duration;

/// How long any single thing may take: two browsers and everything else share the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a browser says in its console of connections that break; no page can keep it from that.
pub(crate) const BROKEN_LINES: [&str; 2] = ["WebSocket connection to", "Failed to load resource: net::ERR_"];

/// Waits for `future`, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited {} s in vain for {what}", PATIENCE.as_secs()))
}
