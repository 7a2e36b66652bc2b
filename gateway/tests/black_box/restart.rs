//! A deploy under load: the real process is told to stop while many send and listen, and a successor takes over its log.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::process_harness::{Folder, Server, scrape, until_some, within_patience};
use crate::torture::{Seen, Whereabouts, all_accepted, send, until_everything_is_acked, user, where_it_is};

const SENDERS: usize = 8;
const CLIENTS: usize = 200;

/// When the successor is expected, and the window behind it, as the gateways are told.
const AFTER: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(3);

/// Notifications received before the stop, and again after everybody is back.
const ENOUGH: usize = 1_000;

/// How one client came back.
struct Return {
    told: Instant,
    advised: Duration,
    back: Instant,
}

/// What the clients tell while they listen.
enum News {
    Received,
    Returned(Return),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_nothing_and_clients_come_back_spread_over_the_window() {
    let folder = Folder::new();
    let settings = [("GATEWAY_SHUTDOWN_RECONNECT_AFTER", "3s"), ("GATEWAY_SHUTDOWN_RECONNECT_WINDOW", "3s")];
    let (moves, whereabouts) = watch::channel(None);
    let (enough, sending) = watch::channel(true);
    let (tell, mut news) = mpsc::unbounded_channel();
    let clients: Vec<_> =
        (0..CLIENTS).map(|index| tokio::spawn(listen(index, whereabouts.clone(), tell.clone()))).collect();
    let server = Server::start_on_disk(folder.path(), &settings).await;
    moves.send_replace(Some(server.addresses));
    until_some("everybody to listen", async || {
        let sessions = scrape(server.addresses.ops).await.value(r#"gateway_sessions{transport="websocket"}"#);
        (sessions == CLIENTS as f64).then_some(())
    })
    .await;
    let senders: Vec<_> = (0..SENDERS)
        .map(|index| tokio::spawn(send(index, CLIENTS, whereabouts.clone(), sending.clone())))
        .collect();
    assert!(collect(&mut news, ENOUGH, 0).await.is_empty(), "nobody was told to leave yet");

    let stopped = Instant::now();
    server.process.terminate();
    let ended = server.process.ended().await;
    let took = stopped.elapsed();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    moves.send_replace(None);
    let server = Server::start_on_disk(folder.path(), &settings).await;
    let started = stopped.elapsed();
    moves.send_replace(Some(server.addresses));
    let returns = collect(&mut news, ENOUGH, CLIENTS).await;

    enough.send_replace(false);
    let accepted = all_accepted(senders).await;
    until_everything_is_acked(&server).await;
    drop(moves);
    let seen: Vec<Seen> = within_patience("the clients to end", join_all(clients))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for one in &accepted {
        one.check(&seen[one.user]);
    }
    for (index, seen) in seen.iter().enumerate() {
        let distinct: HashSet<&String> = seen.texts.values().collect();
        assert_eq!(distinct.len(), seen.texts.len(), "{} got something twice", user(index));
    }
    let (advised, measured) = check_spread(&returns, stopped);
    eprintln!(
        "stopped in {took:?}, successor after {started:?}; advised {advised:?}, came back {measured:?}; accepted {}, received {}",
        accepted.len(),
        seen.iter().map(|seen| seen.texts.len()).sum::<usize>()
    );
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

/// Fails unless everybody was told to leave soon, and came back evenly over the window; returns how many in each third of it,
/// as advised and as measured.
fn check_spread(returns: &[Return], stopped: Instant) -> ([usize; 3], [usize; 3]) {
    let third_of = |moment: Duration| {
        let into = moment.saturating_sub(AFTER).as_secs_f64() / WINDOW.as_secs_f64();
        ((into * 3.0) as usize).min(2)
    };
    let first_told = returns.iter().map(|one| one.told).min().expect("somebody came back");
    let (mut advised, mut measured) = ([0_usize; 3], [0_usize; 3]);
    for one in returns {
        assert!((AFTER..AFTER + WINDOW).contains(&one.advised), "{:?}", one.advised);
        // Within two seconds as the gateway means it, and what a busy machine adds.
        assert!(one.told - stopped < Duration::from_secs(4), "told after {:?}", one.told - stopped);
        advised[third_of(one.advised)] += 1;
        measured[third_of(one.back - first_told)] += 1;
    }
    let even = CLIENTS / 3;
    assert!(advised.iter().all(|count| count.abs_diff(even) <= CLIENTS / 20), "advised: {advised:?}");
    // Measured moments include the time to be told and to connect.
    assert!(measured.iter().all(|count| *count >= even / 3), "came back: {measured:?}");
    (advised, measured)
}

/// Waits for so many notifications and returns; the returns are handed back.
async fn collect(
    news: &mut mpsc::UnboundedReceiver<News>,
    mut received: usize,
    returned: usize,
) -> Vec<Return> {
    let mut returns = Vec::new();
    within_patience("notifications and clients", async {
        while received > 0 || returns.len() < returned {
            match news.recv().await.expect("the clients listen") {
                News::Received => received = received.saturating_sub(1),
                News::Returned(one) => returns.push(one),
            }
        }
    })
    .await;
    returns
}

/// Holds a socket, follows the protocol, and comes back when it is told to. Every other client acks by frames and resumes by position;
/// the others answer pings, trust the gateway to know what they have acked, and drop what they know.
async fn listen(index: usize, mut whereabouts: Whereabouts, news: mpsc::UnboundedSender<News>) -> Seen {
    let mut seen = Seen::default();
    let mut told: Option<(Instant, Duration)> = None;
    let acks_itself = index.is_multiple_of(2);
    loop {
        if let Some((told, advised)) = told {
            tokio::time::sleep_until(told + advised).await;
        }
        let Some(addresses) = where_it_is(&mut whereabouts).await else { return seen };
        let resumed = seen.position.as_ref().filter(|_| acks_itself);
        let after = resumed.map_or(String::new(), |at| format!("&after={}-{}", at.epoch, at.number));
        let ack = if acks_itself { "client" } else { "auto" };
        let url = format!("ws://{}/ws/{}?ack={ack}{after}", addresses.http, user(index));
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        loop {
            let message = tokio::select! {
                message = socket.next() => message,
                // The last gateway is about to stop: everything has come.
                _ = whereabouts.wait_for(|_| false) => return seen,
            };
            let Some(Ok(message)) = message else { break };
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(text.as_str()).unwrap();
            match frame["type"].as_str().unwrap() {
                "drain" => {
                    let advised = Duration::from_millis(frame["reconnect_in_ms"].as_u64().unwrap());
                    told = Some((Instant::now(), advised));
                    continue;
                }
                "welcome" => {
                    if let Some((told, advised)) = told.take() {
                        let back = Return { told, advised, back: Instant::now() };
                        news.send(News::Returned(back)).expect("the test waits");
                    }
                }
                // Nobody counts any more once the test has seen enough.
                "notification" => drop(news.send(News::Received)),
                _ => {}
            }
            if let Some(position) = seen.follow(&frame)
                && acks_itself
            {
                let ack = json!({"type": "ack", "position": position, "after": seen.origin}).to_string();
                // A broken socket shows at the next read.
                let _ = socket.send(Message::text(ack)).await;
            }
        }
    }
}
