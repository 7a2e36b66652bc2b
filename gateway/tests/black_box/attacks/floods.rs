//! Attacks by number: connects, reconnects, frames, requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::target::Target;
use super::wire::{FINAL, TEXT, Tally, Wire, masked, post, somebody, tally, told};

/// Attackers that connect at the same time.
const AT_ONCE: usize = 64;

/// How long a client that was told to come back later waits: less than it was told.
const IMPATIENCE: Duration = Duration::from_millis(100);

/// How deep documents are nested.
const DEPTH: usize = 100_000;

/// What is sent without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endless {
    Pings,
    EmptyFragments,
}

/// Connects as fast as it goes and hangs up at once, from so many addresses.
pub(crate) async fn connects(target: Target, addresses: usize, until: Instant) -> Tally {
    let mut attackers = JoinSet::new();
    for number in 0..AT_ONCE {
        attackers.spawn(async move {
            let mut seen = Tally::new();
            let mut turn = number;
            while Instant::now() < until {
                let connected = Wire::connect(somebody(turn % addresses), target.http).await;
                let what = if connected.is_ok() { "connected" } else { "refused" };
                *seen.entry(what.to_owned()).or_default() += 1;
                if let Ok(wire) = connected {
                    wire.reset();
                }
                turn += AT_ONCE;
            }
            seen
        });
    }
    sum(attackers.join_all().await)
}

/// So many sockets open, are cut all at once and come back all at once, without the patience they are asked for.
pub(crate) async fn reconnects(target: Target, sockets: usize, until: Instant) -> Tally {
    let mut tally = Tally::new();
    for first in [true, false] {
        let gate = Arc::new(Semaphore::new(if first { 256 } else { sockets }));
        let mut clients = JoinSet::new();
        for number in 0..sockets {
            let (target, gate) = (target.clone(), Arc::clone(&gate));
            clients.spawn(async move {
                let _turn = gate.acquire().await.expect("never closed");
                let user = format!("wave-{number}");
                let credential = target.user(&user);
                let mut seen = Vec::new();
                loop {
                    let opened = async {
                        let mut wire = Wire::connect(somebody(number % 200), target.http).await?;
                        wire.open(&user, &credential).await?;
                        Ok(wire)
                    };
                    match opened.await {
                        Ok(wire) => return (seen, Some(wire)),
                        Err(error) => seen.push(told(Err(error))),
                    }
                    if Instant::now() > until {
                        return (seen, None);
                    }
                    tokio::time::sleep(IMPATIENCE).await;
                }
            });
        }
        let (refusals, wires): (Vec<_>, Vec<_>) = clients.join_all().await.into_iter().unzip();
        let opened = wires.iter().flatten().count();
        let phase = if first { "opened" } else { "came back" };
        *tally.entry(phase.to_owned()).or_default() += opened;
        let refused = refusals.into_iter().flatten().filter(|_| !first);
        refused.for_each(|what| *tally.entry(what).or_default() += 1);
        wires.into_iter().flatten().for_each(Wire::reset);
    }
    tally
}

/// Sockets that send frames without end, reading nothing; each again and again until the time is over.
pub(crate) async fn endless(target: Target, what: Endless, sockets: usize, until: Instant) -> Tally {
    let (beginning, rest) = match what {
        Endless::Pings => (Vec::new(), masked(FINAL | 0x9, b"ping")),
        Endless::EmptyFragments => (masked(TEXT, b""), masked(0, b"")),
    };
    let rest: Arc<[u8]> = rest.repeat(200).into();
    let mut attackers = JoinSet::new();
    for number in 0..sockets {
        let (target, beginning, rest) = (target.clone(), beginning.clone(), Arc::clone(&rest));
        attackers.spawn(async move {
            let user = format!("flood-{number}");
            let credential = target.user(&user);
            let mut seen = Tally::new();
            while Instant::now() < until {
                let flooding = async {
                    let mut wire = Wire::connect(somebody(number % 200), target.http).await?;
                    wire.open(&user, &credential).await?;
                    wire.send(&beginning).await?;
                    while Instant::now() < until {
                        // A gateway may stop reading from such a client.
                        if tokio::time::timeout_at(until, wire.send(&rest))
                            .await
                            .is_ok_and(|sent| sent.is_err())
                        {
                            break;
                        }
                        *seen.entry("sent".to_owned()).or_default() += 200;
                    }
                    wire.close_code().await
                };
                let end = tokio::time::timeout_at(until + Duration::from_secs(2), flooding).await;
                *seen.entry(end.map_or_else(|_| "stayed".to_owned(), told)).or_default() += 1;
            }
            seen
        });
    }
    sum(attackers.join_all().await)
}

/// POSTs documents that are nested without end, so many over each of a few connections.
pub(crate) async fn nested(target: Target, requests: usize, until: Instant) -> Tally {
    let documents = [
        format!(r#"{{"to":["nobody"],"data":{}"#, "[".repeat(DEPTH)),
        format!(r#"{{"to":["nobody"],"data":{}1{}}}"#, r#"{"a":"#.repeat(DEPTH), "}".repeat(DEPTH)),
        "[".repeat(DEPTH),
    ];
    let paths = ["/v1/notifications", "/v1/notifications/batch"];
    let requested: Vec<_> = documents
        .iter()
        .flat_map(|document| paths.map(|path| post(path, &target.sender(), document)))
        .collect();
    let requested: Arc<[Vec<u8>]> = requested.into();
    let mut attackers = JoinSet::new();
    for number in 0..4 {
        let requested = Arc::clone(&requested);
        attackers.spawn(async move {
            let mut seen = Vec::new();
            for request in requested.iter().cycle().take(requests / 4) {
                let asked = async {
                    let mut wire = Wire::connect(somebody(number), target.http).await?;
                    wire.send(request).await?;
                    wire.status().await
                };
                seen.push(told(asked.await));
                if Instant::now() > until {
                    break;
                }
            }
            seen
        });
    }
    tally(attackers.join_all().await.into_iter().flatten())
}

/// Adds up several tallies.
pub(crate) fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    let mut all = Tally::new();
    for (what, count) in tallies.into_iter().flatten() {
        *all.entry(what).or_default() += count;
    }
    all
}
