//! Attacks by slowness: requests that never end, readers that never read.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::target::Target;
use super::wire::{FINAL, Tally, Wire, masked, post, somebody, tally, told, upgrade};

/// How often a drop falls.
const DRIP_EVERY: Duration = Duration::from_millis(100);

/// Notifications for those who never read, and how large each is: more together than the kernel and the gateway hold for a
/// socket on its way.
const BURST: usize = 40;
const LARGE_BYTES: usize = 30_000;
const SEND_EVERY: Duration = Duration::from_millis(50);

/// What is never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    Frames,
    Events,
    Answers,
}

/// Sockets that begin a request's headers and let a byte drip now and then, each again and again until the time is over.
pub(crate) async fn half_sent_headers(target: Target, sockets: usize, until: Instant) -> Tally {
    drip(target, sockets, until, "GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".to_owned()).await
}

/// Sockets whose headers promise a body that drips, each again and again until the time is over.
pub(crate) async fn half_sent_bodies(target: Target, sockets: usize, until: Instant) -> Tally {
    let head = format!(
        "POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{}\
         Content-Length: 1000000\r\n\r\n{{",
        target.sender()
    );
    drip(target, sockets, until, head).await
}

async fn drip(target: Target, sockets: usize, until: Instant, beginning: String) -> Tally {
    let beginning: Arc<str> = beginning.into();
    let mut attackers = JoinSet::new();
    for number in 0..sockets {
        let beginning = Arc::clone(&beginning);
        attackers.spawn(async move {
            let mut seen = Vec::new();
            while seen.is_empty() || Instant::now() < until {
                let attempt = async {
                    let mut wire = Wire::connect(somebody(number % 200), target.http).await?;
                    wire.send(beginning.as_bytes()).await?;
                    wire.drip(DRIP_EVERY).await
                };
                seen.push(told(attempt.await));
            }
            seen
        });
    }
    tally(attackers.join_all().await.into_iter().flatten())
}

/// Clients that ask for a lot and take nothing of it, until they are cut or the time is over.
pub(crate) async fn never_read(target: Target, what: Unread, sockets: usize, until: Instant) -> Tally {
    let mut asking = JoinSet::new();
    for number in 0..sockets {
        let target = target.clone();
        asking.spawn(async move {
            let user = format!("sleeper-{number}");
            let credential = target.user(&user);
            let mut wire = Wire::connect_narrow(somebody(number % 200), target.http).await?;
            match what {
                Unread::Frames => wire.send(upgrade(&user, &credential).as_bytes()).await?,
                Unread::Events => wire.send(get(&format!("/sse/{user}"), &credential).as_bytes()).await?,
                // The document is large: the first few fill every buffer.
                Unread::Answers => wire.send(get("/openapi.json", "").repeat(40).as_bytes()).await?,
            }
            std::io::Result::Ok(wire)
        });
    }
    let wires = asking.join_all().await.into_iter().filter_map(Result::ok).collect::<Vec<_>>();
    if what != Unread::Answers {
        send_a_lot(&target, wires.len()).await;
    }
    let mut sleepers = JoinSet::new();
    for mut wire in wires {
        sleepers.spawn(async move {
            let sign_of_life =
                if what == Unread::Frames { masked(FINAL | 0x9, b"") } else { b"\r\n".to_vec() };
            let gone = wire.prod(&sign_of_life, DRIP_EVERY, until).await;
            if gone { "cut" } else { "stayed" }.to_owned()
        });
    }
    tally(sleepers.join_all().await)
}

async fn send_a_lot(target: &Target, users: usize) {
    let names = (0..users).map(|number| format!("\"sleeper-{number}\"")).collect::<Vec<_>>().join(",");
    let body = format!(r#"{{"to":[{names}],"body":"{}","ttl_seconds":1}}"#, "x".repeat(LARGE_BYTES));
    let request = post("/v1/notifications", &target.sender(), &body);
    let Ok(mut wire) = Wire::connect(somebody(0), target.http).await else { return };
    // As an honest sender might: a burst without a pause would be an attack by itself.
    let mut interval = tokio::time::interval(SEND_EVERY);
    for _ in 0..BURST {
        interval.tick().await;
        // A gateway that refuses them is spared.
        if wire.send(&request).await.is_err() || wire.status().await.is_err() {
            return;
        }
    }
}

fn get(path: &str, extra: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n")
}
