//! Attacks by names: users, keys, addresses and credentials, each seen once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::floods::sum;
use super::target::Target;
use super::wire::{Tally, Wire, post, somebody, tally, told};

/// Notifications in one batch.
const BATCH: usize = 100;

/// Connections that ask one after another.
const AT_ONCE: usize = 8;

/// Notifications to so many users who never come, each with an idempotency key of its own.
pub(crate) async fn users_and_keys(target: Target, users: usize, until: Instant) -> Tally {
    let sender = target.sender();
    let request = move |turn: usize| {
        let notification =
            |user: usize| format!(r#"{{"to":["stranger-{user}"],"body":"x","ttl_seconds":1}}"#);
        let items = (turn * BATCH..(turn + 1) * BATCH).map(notification).collect::<Vec<_>>().join(",");
        let extra = format!("{sender}Idempotency-Key: key-{turn}\r\n");
        post("/v1/notifications/batch", &extra, &format!("[{items}]"))
    };
    ask(target, users / BATCH, until, request).await
}

/// Sends by so many users, each with a token of its own.
pub(crate) async fn senders(target: Target, users: usize, until: Instant) -> Tally {
    let names: Vec<String> = (0..users).map(|number| format!("sender-{number}")).collect();
    let credentials: Vec<String> = target.users(names.iter().map(String::as_str)).collect();
    let body = r#"{"to":["nobody"],"body":"x","ttl_seconds":1}"#;
    ask(target, users, until, move |turn| post("/v1/notifications", &credentials[turn], body)).await
}

/// Attempts to listen from so many addresses behind a proxy that is trusted, without a credential.
pub(crate) async fn addresses(target: Target, addresses: usize, until: Instant) -> Tally {
    let request = |turn: usize| {
        let [a, b, c, ..] = turn.to_le_bytes();
        let address = format!("10.{c}.{b}.{a}");
        let head = format!("GET /sse/eve HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {address}\r\n\r\n");
        head.into_bytes()
    };
    ask(target, addresses, until, request).await
}

/// Guesses API keys: half of them with an id that exists.
pub(crate) async fn guessed_keys(target: Target, guesses: usize, until: Instant) -> Tally {
    let request = |turn: usize| {
        let id = if turn.is_multiple_of(2) { 0xb157_a4de } else { turn };
        let extra = format!("Authorization: Bearer gwk_{id:08x}_{turn:043}\r\n");
        post("/v1/notifications", &extra, r#"{"to":["eve"],"body":"mine"}"#)
    };
    ask(target, guesses, until, request).await
}

/// Tokens signed with keys that nobody knows; each names another one.
pub(crate) async fn invented_signers(target: Target, guesses: usize, until: Instant) -> Tally {
    let request = |turn: usize| {
        let part = |json: String| base64_of(json.as_bytes());
        let header = part(format!(r#"{{"alg":"RS256","typ":"JWT","kid":"key-{turn}"}}"#));
        let claims = part(r#"{"sub":"eve","exp":9999999999}"#.to_owned());
        let signature = base64_of(&[7; 256]);
        let extra = format!("Authorization: Bearer {header}.{claims}.{signature}\r\n");
        post("/v1/notifications", &extra, r#"{"to":["eve"],"body":"mine"}"#)
    };
    ask(target, guesses, until, request).await
}

/// Asks so many times over a few connections and tallies the answers' statuses.
async fn ask(
    target: Target,
    turns: usize,
    until: Instant,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> Tally {
    let (request, next) = (Arc::new(request), Arc::new(AtomicUsize::new(0)));
    let mut attackers = JoinSet::new();
    for number in 0..AT_ONCE {
        let (request, next) = (Arc::clone(&request), Arc::clone(&next));
        attackers.spawn(async move {
            let mut seen = Vec::new();
            let mut wire = Wire::connect(somebody(number), target.http).await.ok();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= turns || Instant::now() > until {
                    return tally(seen);
                }
                let asked = async {
                    let mut open = match wire.take() {
                        Some(wire) => wire,
                        None => Wire::connect(somebody(number), target.http).await?,
                    };
                    open.send(&request(turn)).await?;
                    let status = open.status().await?;
                    wire = Some(open);
                    Ok(status)
                };
                seen.push(told(asked.await));
            }
        });
    }
    sum(attackers.join_all().await)
}

/// Base64 for URLs, without padding (RFC 4648 §5).
fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
