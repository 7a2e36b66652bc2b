//! The log on disk, from outside: what a restart keeps, what outlives retention, and how a bad disk is told.

use std::path::Path;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::{Config, LogStore};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::bad_machine::BadMachine;
use crate::harness::{Gateway, Place, Receiver, SOME_TIME_US};
use crate::process_harness::{EPHEMERAL, Folder, Process, Server, scrape, send, until_some};

const SECOND_US: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * SECOND_US;

fn on_disk(directory: &Path) -> impl Fn(&mut Config) + use<> {
    let directory = directory.to_owned();
    move |config| config.log.store = LogStore::Disk(directory.clone())
}

async fn ack_all(receiver: &mut Receiver) {
    let ack = json!({"type": "ack", "position": receiver.position()});
    receiver.say(Message::text(ack.to_string())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_waits_and_every_position_means_the_same() {
    let folder = Folder::new();
    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    let mut cuts = vec![receiver.position()];
    let texts: Vec<String> = (0..8).map(|number| format!("number {number}")).collect();
    for text in &texts {
        gateway.send_text("bob", text).await;
        gateway.send_text("carol", "numbers are not dense in a mailbox").await;
        receiver.notification().await;
        cuts.push(receiver.position());
    }
    let ack = json!({"type": "ack", "position": cuts[3]});
    receiver.say(Message::text(ack.to_string())).await;
    gateway.until_metric(r#"gateway_ledger_final_total{outcome="acked"}"#, 3.0).await;
    drop(receiver);
    gateway.stop().await;

    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    assert_eq!(gateway.metric(r#"gateway_ledger_final_total{outcome="acked"}"#).await, 3.0);
    assert_eq!(gateway.user("bob").await.body["pending"], 5);
    let mut receivers = Vec::new();
    for (seen, cut) in cuts.iter().enumerate() {
        let mut resumed = gateway.dial("bob").after(cut).acks_itself().open().await;
        assert_eq!(resumed.position(), *cut);
        assert_eq!(resumed.texts(texts.len() - seen).await, texts[seen..]);
        receivers.push(resumed);
    }
    let mut bare = gateway.dial("bob").acks_itself().open().await;
    assert_eq!(bare.texts(5).await, texts[3..]);
    gateway.send_text("bob", "after the restart").await;
    for receiver in receivers.iter_mut().chain([&mut bare]) {
        assert_eq!(receiver.texts(1).await, ["after the restart"]);
    }
    drop((receivers, bare));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_outlives_retention_and_a_restart() {
    let folder = Folder::new();
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, on_disk(folder.path())).await;
    let joined = gateway.put("/v1/topics/news/subscribers/bob").await;
    assert_eq!(joined.status, 200, "{}", joined.body);
    let brief: Value =
        (0..1_000).map(|number| json!({"to": [format!("user-{}", number % 10)], "ttl_seconds": 1})).collect();
    let first = Place::of(&gateway.send_text("carol", "will be dropped").await.body["position"]);
    let mut now_us = SOME_TIME_US;
    // Each round everything expires, and after a day and an hour nobody may ask for it any more.
    for _ in 0..4 {
        for _ in 0..2 {
            gateway.sender().post("/v1/notifications/batch", &brief).await.accepted();
        }
        now_us += 26 * HOUR_US;
        hand.set(now_us);
        gateway.until_metric("gateway_mailbox_depth", 0.0).await;
    }
    // Nothing is sent any more: time alone makes room.
    now_us += 26 * HOUR_US;
    hand.set(now_us);
    until_some("the log to be trimmed", async || {
        (gateway.metric("gateway_log_entries").await < 1_100.0).then_some(())
    })
    .await;
    gateway.stop().await;

    let (clock, _) = Clock::manual(now_us);
    let gateway = Gateway::start_with_clock(clock, on_disk(folder.path())).await;
    let topics = gateway.get("/v1/users/bob/topics").await;
    assert_eq!(topics.body, json!({"topics": ["news"]}));
    let sent = gateway.send(json!({"topic": "news", "body": "still here"})).await.accepted();
    assert_eq!(sent.body["recipients"], 1);
    let mut bob = gateway.listen("bob").await;
    assert_eq!(bob.texts(1).await, ["still here"]);

    // Whoever was away for all of that is told, and nothing is called a loss.
    let mut carol = gateway.listen_after("carol", &format!("{}-{}", first.epoch, first.number - 1)).await;
    let gap = carol.gap().await;
    assert_eq!(gap["reason"], "expired", "{gap}");
    drop((bob, carol));
    gateway.stop().await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let folder = Folder::new();
    let server = Server::start_on_disk(folder.path(), &[]).await;
    let log = format!("disk:{}", folder.path().display());
    let second = Process::run(&[&EPHEMERAL[..4], &["--log", &log]].concat(), &[]).await;
    assert_eq!(second.code, Some(1));
    assert_eq!(second.complained.len(), 1, "{second:?}");
    assert!(second.complained[0].contains("in use by another process"), "{second:?}");
    assert_eq!(send(server.addresses.http, &["bob"], "the first one is not disturbed").await.0, 202);
}

#[tokio::test]
async fn a_directory_of_a_later_version_is_refused_with_the_code_of_a_bad_configuration() {
    let folder = Folder::new();
    Server::start_on_disk(folder.path(), &[]).await.kill();
    let path = folder.path().join("identity");
    let identity = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, later_format(&identity)).unwrap();
    let log = format!("disk:{}", folder.path().display());
    let refused = Process::run(&[&EPHEMERAL[..4], &["--log", &log]].concat(), &[]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert_eq!(refused.complained.len(), 1, "{refused:?}");
    assert!(refused.complained[0].contains("format 2"), "{refused:?}");
}

/// The file as a later version would write it, down to its checksum.
fn later_format(identity: &str) -> String {
    let (body, _) = identity.split_once("checksum").expect("the file ends with its checksum");
    let body = body.replace("format 1", "format 2");
    format!("{body}checksum {:08x}\n", crc32fast::hash(body.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_tells_every_client_that_its_position_means_nothing() {
    let folder = Folder::new();
    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    gateway.send_text("bob", "from the backup").await;
    let position = gateway.listen("bob").await.position();
    gateway.until_sessions("bob", 0).await;
    gateway.stop().await;

    let restored = on_disk(folder.path());
    let gateway = Gateway::start_with(|config| {
        restored(config);
        config.new_epoch = true;
    })
    .await;
    let mut receiver = gateway.listen_after("bob", &position).await;
    let gap = receiver.gap().await;
    assert_eq!((&gap["after"], &gap["reason"]), (&json!(position), &json!("epoch")), "{gap}");
    assert_eq!(receiver.texts(1).await, ["from the backup"]);
    let renewed = receiver.position();
    drop(receiver);
    gateway.stop().await;

    // It is kept: the next start is an ordinary one.
    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    let mut receiver = gateway.listen_after("bob", &renewed).await;
    gateway.send_text("bob", "next").await;
    assert_eq!(receiver.texts(1).await, ["next"]);
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_runs_full_refuses_senders_keeps_sockets_and_recovers() {
    let disk = BadMachine::new();
    let server = disk.start(&[]).await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/ws/bob", server.addresses.http)).await.unwrap();
    assert_eq!(send(server.addresses.http, &["bob"], "while there is room").await.0, 202);
    disk.fails("free 200000000\n");
    let (status, problem) = until_some("the reserve to be noticed", async || {
        let answer = send(server.addresses.http, &["bob"], "short").await;
        (answer.0 != 202).then_some(answer)
    })
    .await;
    assert_eq!((status, problem["delivered"].is_null()), (503, true), "nothing was written: {problem}");
    let during = scrape(server.addresses.ops).await;
    assert_eq!(during.value(r#"gateway_sessions{transport="websocket"}"#), 1.0);
    // An ack makes room rather than take it.
    until_some("acks to be taken", async || {
        use futures_util::StreamExt;
        let _ = tokio::time::timeout(Duration::from_millis(20), socket.next()).await;
        let metrics = scrape(server.addresses.ops).await;
        (metrics.value("gateway_mailbox_depth") == 0.0).then_some(())
    })
    .await;
    disk.fails("");
    until_some("the space to be noticed", async || {
        (send(server.addresses.http, &["bob"], "room again").await.0 == 202).then_some(())
    })
    .await;
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_process_with_one_line_and_no_false_word() {
    for fault in ["fsync EIO\n", "write EIO\n", "write ENOSPC\n"] {
        let disk = BadMachine::new();
        let server = disk.start(&[]).await;
        let http = server.addresses.http;
        let (status, kept) = send(http, &["bob"], "kept").await;
        assert_eq!(status, 202);
        disk.fails(fault);
        let client = reqwest::Client::new();
        let notification = json!({"to": ["bob"], "body": "doomed"});
        let answer = client.post(format!("http://{http}/v1/notifications")).json(&notification).send().await;
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 503, "{fault}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["delivered"], "unknown", "{fault}: {problem}");
        }
        let ended = server.process.ended().await;
        assert_eq!(ended.code, Some(1), "{fault}: {ended:?}");
        // Beside the line about the request that failed with it.
        let (requests, process): (Vec<_>, Vec<_>) =
            ended.complained.iter().partition(|line| line.contains("a notification was not taken"));
        assert!(requests.len() <= 1, "{fault}: {ended:?}");
        assert_eq!(process.len(), 1, "{fault}: {ended:?}");
        assert!(process[0].contains("cannot go on"), "{fault}: {ended:?}");

        disk.fails("");
        let server = disk.start(&[]).await;
        let gateway = format!("http://{}", server.addresses.http);
        let user: Value =
            reqwest::get(format!("{gateway}/v1/users/bob")).await.unwrap().json().await.unwrap();
        assert!(user["pending"].as_u64().unwrap() >= 1, "what was accepted is there: {user}");
        let metrics = scrape(server.addresses.ops).await;
        assert_eq!(metrics.value("gateway_ledger_imbalance"), 0.0);
        let outcome = reqwest::get(format!("{gateway}/v1/notifications/{}", kept["id"].as_str().unwrap()));
        assert_eq!(outcome.await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_survive_an_orderly_stop() {
    let folder = Folder::new();
    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    for number in 0..20 {
        gateway.send_text("bob", &format!("number {number}")).await;
    }
    receiver.texts(20).await;
    ack_all(&mut receiver).await;
    receiver.close().await;
    gateway.stop().await;
    let gateway = Gateway::start_with(on_disk(folder.path())).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 0);
    gateway.stop().await;
}

trait Put {
    async fn put(&self, path: &str) -> crate::harness::Answer;
}

impl Put for Gateway {
    async fn put(&self, path: &str) -> crate::harness::Answer {
        crate::harness::Answer::of(self.request(Method::PUT, path)).await
    }
}
