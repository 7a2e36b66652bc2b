//! Killing the real process again and again while hundreds send: whatever got a 202 is delivered, or its loss announced.
//!
//! The short form runs with every test; `make torture` runs longer, by `TORTURE_ROUNDS` and `TORTURE_SEED`.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gateway::app::Addresses;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Place;
use crate::process_harness::{Folder, Server, scrape, until_some, within_patience};

const SENDERS: usize = 256;
const USERS: usize = 32;

/// How often the process is killed in one run, unless `TORTURE_ROUNDS` says otherwise.
const ROUNDS: u64 = 20;

/// The longest time between two kills, in milliseconds; the shortest is a tenth.
const LONGEST_LIFE_MS: u64 = 300;

/// Where the gateway is now; `None` while it is down, and no change comes after the last one.
pub(crate) type Whereabouts = watch::Receiver<Option<Addresses>>;

/// What one sender was told.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) user: usize,
    place: Place,
    text: String,
}

/// What one receiver saw, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) position: Option<Place>,
    /// Where its unbroken reading began: with it, an ack covers what was acked before and lost in a kill.
    pub(crate) origin: String,
    /// Texts by number; a text comes once.
    pub(crate) texts: BTreeMap<u64, String>,
    /// Announced losses: `(after, until]`.
    losses: Vec<(u64, u64)>,
    connections: usize,
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn user(index: usize) -> String {
    format!("user-{index}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_survives_a_process_that_is_killed_again_and_again() {
    let rounds = from_environment("TORTURE_ROUNDS", ROUNDS);
    let seed = from_environment("TORTURE_SEED", u64::from(std::process::id()));
    eprintln!("TORTURE_ROUNDS={rounds} TORTURE_SEED={seed}");
    let folder = Folder::new();
    let (moves, whereabouts) = watch::channel(None);
    let (enough, sending) = watch::channel(true);
    let senders: Vec<_> = (0..SENDERS)
        .map(|index| tokio::spawn(send(index, USERS, whereabouts.clone(), sending.clone())))
        .collect();
    let receivers: Vec<_> =
        (0..USERS).map(|index| tokio::spawn(receive(index, whereabouts.clone()))).collect();

    let mut random = seed;
    for _ in 0..rounds {
        let server = Server::start_on_disk(folder.path(), &[]).await;
        assert_eq!(scrape(server.addresses.ops).await.value("gateway_ledger_imbalance"), 0.0);
        moves.send_replace(Some(server.addresses));
        // splitmix64: any moment will do, the same ones for the same seed.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let life_ms = LONGEST_LIFE_MS / 10 + (mixed >> 33) % (LONGEST_LIFE_MS * 9 / 10);
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        moves.send_replace(None);
        server.kill();
    }

    let server = Server::start_on_disk(folder.path(), &[]).await;
    moves.send_replace(Some(server.addresses));
    enough.send_replace(false);
    let accepted = all_accepted(senders).await;
    assert!(accepted.len() > SENDERS, "hardly anything was accepted: {}", accepted.len());
    until_everything_is_acked(&server).await;
    drop(moves);
    let receivers = futures_util::future::join_all(receivers);
    let seen = within_patience("the receivers to end", receivers).await;
    let seen: Vec<Seen> = seen.into_iter().map(Result::unwrap).collect();
    for one in &accepted {
        one.check(&seen[one.user]);
    }
    for (index, seen) in seen.iter().enumerate() {
        let distinct: HashSet<&String> = seen.texts.values().collect();
        assert_eq!(distinct.len(), seen.texts.len(), "{} got something twice", user(index));
        assert!(seen.connections > 1, "{} was never cut off", user(index));
    }
    eprintln!(
        "accepted {}, received {}",
        accepted.len(),
        seen.iter().map(|seen| seen.texts.len()).sum::<usize>()
    );
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

pub(crate) async fn all_accepted(senders: Vec<JoinHandle<Vec<Accepted>>>) -> Vec<Accepted> {
    let senders = within_patience("the senders to end", futures_util::future::join_all(senders)).await;
    senders.into_iter().flat_map(Result::unwrap).collect()
}

/// Every receiver acks all it gets: once nothing is pending, everything came or was announced, and the books balance.
pub(crate) async fn until_everything_is_acked(server: &Server) {
    until_some("nothing to be pending", async || {
        let metrics = scrape(server.addresses.ops).await;
        assert_eq!(metrics.value("gateway_ledger_imbalance"), 0.0);
        (metrics.value("gateway_mailbox_depth") == 0.0).then_some(())
    })
    .await;
}

impl Accepted {
    /// Fails unless its recipient got it, once and at its place, or was told of a loss there.
    pub(crate) fn check(&self, seen: &Seen) {
        let announced =
            seen.losses.iter().any(|(after, until)| (*after + 1..=*until).contains(&self.place.number));
        match seen.texts.get(&self.place.number) {
            Some(text) => assert_eq!(*text, self.text, "another text at {:?}", self.place),
            None => assert!(announced, "{self:?} was accepted and is gone: {:?}", seen.losses),
        }
    }
}

/// Sends one text after another, each once, to users in turn; remembers which were accepted.
pub(crate) async fn send(
    sender: usize,
    users: usize,
    mut whereabouts: Whereabouts,
    sending: watch::Receiver<bool>,
) -> Vec<Accepted> {
    let client = reqwest::Client::new();
    let mut accepted = Vec::new();
    let mut count = 0;
    while *sending.borrow() {
        let Some(addresses) = where_it_is(&mut whereabouts).await else { break };
        let to = (sender + count) % users;
        let text = format!("{sender}:{count}");
        count += 1;
        let url = format!("http://{}/v1/notifications", addresses.http);
        let notification = json!({"to": [user(to)], "body": text});
        // What is not answered may or may not have been accepted: nothing follows from it.
        let Ok(response) = client.post(url).json(&notification).send().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let status = response.status().as_u16();
        let Ok(answer) = response.json::<Value>().await else { continue };
        if status == 202 {
            accepted.push(Accepted { user: to, place: Place::of(&answer["position"]), text });
        } else {
            assert_eq!(status, 503, "{answer}");
        }
    }
    accepted
}

/// Holds a socket whenever there is a gateway, follows the protocol, and acks everything. Every other user resumes by position,
/// the others trust the gateway to know what they have acked and drop what they know.
async fn receive(index: usize, mut whereabouts: Whereabouts) -> Seen {
    let mut seen = Seen::default();
    while let Some(addresses) = where_it_is(&mut whereabouts).await {
        let resumed = seen.position.as_ref().filter(|_| index.is_multiple_of(2));
        let after = resumed.map_or(String::new(), |place| format!("&after={}-{}", place.epoch, place.number));
        let url = format!("ws://{}/ws/{}?ack=client{after}", addresses.http, user(index));
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        seen.connections += 1;
        loop {
            let message = tokio::select! {
                message = socket.next() => message,
                // The last gateway is about to stop: everything has come.
                _ = whereabouts.wait_for(|_| false) => return seen,
            };
            let Some(Ok(message)) = message else { break };
            let Message::Text(text) = message else { continue };
            let frame = serde_json::from_str(text.as_str()).unwrap();
            if let Some(position) = seen.follow(&frame) {
                let ack = json!({"type": "ack", "position": position, "after": seen.origin}).to_string();
                // A broken socket shows at the next read.
                let _ = socket.send(Message::text(ack)).await;
            }
        }
    }
    seen
}

impl Seen {
    /// Moves the position as the protocol says; returns what to ack.
    pub(crate) fn follow(&mut self, frame: &Value) -> Option<String> {
        let known = self.position.as_ref().map_or(0, |place| place.number);
        let moved = match frame["type"].as_str().unwrap() {
            // A session that starts behind what this client has seen repeats what it knows.
            "welcome" if self.position.is_none() => {
                self.origin = frame["position"].as_str()?.to_owned();
                Place::of(&frame["position"])
            }
            "notification" => {
                let place = Place::of(&frame["position"]);
                let prev = Place::of(&frame["prev"]);
                if place.number <= known {
                    return Some(frame["position"].as_str()?.to_owned());
                }
                assert!(prev.number <= known, "a hole between {known} and {frame}");
                self.texts.insert(place.number, frame["body"].as_str().unwrap().to_owned());
                place
            }
            "gap" => {
                let (after, until) = (Place::of(&frame["after"]), Place::of(&frame["until"]));
                assert_ne!(frame["reason"], "epoch", "a restart keeps the epoch: {frame}");
                // Only a loss excuses that something accepted did not come.
                if frame["reason"] == "overflow" {
                    self.losses.push((after.number, until.number));
                }
                if until.number <= known {
                    return None;
                }
                until
            }
            _ => return None,
        };
        let position = format!("{}-{}", moved.epoch, moved.number);
        self.position = Some(moved);
        Some(position)
    }
}

/// Where the gateway is, as soon as there is one; `None` when none will come any more.
pub(crate) async fn where_it_is(whereabouts: &mut Whereabouts) -> Option<Addresses> {
    *whereabouts.wait_for(Option::is_some).await.ok()?
}
