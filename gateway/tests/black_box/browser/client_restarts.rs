//! The gateway goes and comes back, in order or not: the page goes on where it was.

use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::page::{Client, Page};
use super::proxy::Proxy;
use super::{BROKEN_LINES, within};
use crate::process_harness::{self, Folder, Server, scrape, until_some};

/// Clients are told to come back soon, and what is sent until then finds room.
const SETTINGS: [(&str, &str); 4] = [
    ("GATEWAY_SHUTDOWN_RECONNECT_AFTER", "300ms"),
    ("GATEWAY_SHUTDOWN_RECONNECT_WINDOW", "200ms"),
    ("GATEWAY_MAILBOX_MAX_NOTIFICATIONS", "100000"),
    ("GATEWAY_MAILBOX_MAX_BYTES", "64MiB"),
];

/// What a client told when it was told to come back, for the so-manieth time.
const DRAINED: &str =
    "page.events(arguments[0], 'state').filter(({ code }) => code === 1012)[arguments[1] - 1]";

/// Sends numbers to bob, one after the other, until it is told to stop; returns how many there are. Each is repeated, with its
/// key, until it is accepted.
async fn send(mut whereabouts: watch::Receiver<Option<String>>, mut enough: watch::Receiver<bool>) -> usize {
    let client = reqwest::Client::new();
    let mut number = 0;
    while !*enough.borrow_and_update() {
        number += 1;
        loop {
            let url = whereabouts.wait_for(Option::is_some).await.expect("the test goes on").clone();
            let url = format!("{}/v1/notifications", url.expect("it is somewhere"));
            let request = client.post(url).header("idempotency-key", number.to_string());
            let answer = request.json(&json!({"to": ["bob"], "body": number.to_string()})).send().await;
            match answer.map(|answer| answer.status().as_u16()) {
                Ok(202) => break,
                Ok(503 | 409) | Err(_) => tokio::task::yield_now().await,
                Ok(status) => panic!("{status}"),
            }
        }
    }
    number
}

/// Waits until the client has received more than before.
async fn until_more(client: &Client<'_>, before: usize) -> usize {
    client.until_events("notification", before + 20).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_and_kills_lose_nothing_and_repeat_nothing() {
    let folder = Folder::new();
    let start = async |folder: &Path| Server::start_on_disk(folder, &SETTINGS).await;
    let mut server = start(folder.path()).await;
    let proxy = Proxy::start(server.addresses.http);
    let page = Page::open(&[proxy.address()]).await;
    let (moves, whereabouts) = watch::channel(Some(server.url()));
    let (enough, sending) = watch::channel(false);
    let sender = tokio::spawn(send(whereabouts, sending));
    let bob = page.listen_with(json!({"user": "bob", "minBackoffMs": 1, "maxBackoffMs": 50})).await;
    let (mut received, mut drains) = (until_more(&bob, 0).await, 0);
    for (round, killed) in [false, true, false, true].into_iter().enumerate() {
        moves.send_replace(None);
        if killed {
            server.kill();
        } else {
            server.process.terminate();
            drains += 1;
            let waiting = page.browser.until("the drain", DRAINED, json!([bob.name(), drains])).await;
            let pause = waiting["retryInMs"].as_f64().expect("a pause");
            assert!((0.0..=500.0).contains(&pause), "as the drain says: {waiting}");
            assert_eq!(server.process.ended().await.code, Some(0));
        }
        server = start(folder.path()).await;
        proxy.retarget(server.addresses.http);
        moves.send_replace(Some(server.url()));
        bob.until_told("open", round + 2).await;
        received = until_more(&bob, received).await;
    }
    enough.send_replace(true);
    let sent = within("the sender", sender).await.expect("the sender does not panic");
    let expected: Vec<_> = (1..=sent).map(|number| number.to_string()).collect();
    let came = bob.until_texts(sent).await;
    assert!(came == expected, "every one, in order, once: {came:?}");
    assert_eq!(bob.events("gap").await, [] as [Value; 0]);
    until_some("everything to be acked", async || {
        let url = format!("{}/v1/users/bob", server.url());
        let state: Value = reqwest::get(url).await.ok()?.json().await.ok()?;
        (state["pending"] == 0 && state["sessions"] == 1).then_some(())
    })
    .await;
    assert_eq!(scrape(server.addresses.ops).await.value("gateway_ledger_imbalance"), 0.0);
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_lost_is_told_as_a_gap_and_the_page_goes_on() {
    let server = Server::start(&SETTINGS).await;
    let proxy = Proxy::start(server.addresses.http);
    let page = Page::open(&[proxy.address()]).await;
    let bob = page.listen_with(json!({"user": "bob", "minBackoffMs": 1, "maxBackoffMs": 50})).await;
    bob.until_state("open").await;
    let say = async |server: &Server, text: &str| {
        let (status, answer) = process_harness::send(server.addresses.http, &["bob"], text).await;
        assert_eq!(status, 202, "{answer}");
        answer["position"].as_str().expect("a position").to_owned()
    };
    let old = say(&server, "one").await;
    bob.until_position(&old).await;
    // Nobody listens while it is away.
    proxy.refuse().await;
    server.kill();
    bob.until_state("waiting").await;
    let server = Server::start(&SETTINGS).await;
    proxy.retarget(server.addresses.http);
    proxy.forward();
    bob.until_told("open", 2).await;
    let new = say(&server, "two").await;
    assert_eq!(bob.until_texts(2).await, ["one", "two"]);
    let gaps = bob.events("gap").await;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((&gaps[0]["reason"], &gaps[0]["isLoss"]), (&json!("epoch"), &json!(true)));
    assert_eq!(gaps[0]["after"], old);
    bob.until_position(&new).await;
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    drop(server);
}
