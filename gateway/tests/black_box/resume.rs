//! Coming back after a break: everything once, in order, and every hole announced.

use std::time::Duration;

use gateway::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{Gateway, Place, Receiver, SOME_TIME_US};

/// How many notifications wait while receivers come and go.
const PUBLISHED: usize = 2_000;

/// How many of them travel in one request.
const BATCH: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_continues_behind_any_notification_without_loss_or_double() {
    let gateway = Gateway::start().await;
    let mut first = gateway.listen("bob").await;
    let mut cuts = vec![first.position()];
    let sent: Vec<String> = (0..10).map(|number| format!("number {number}")).collect();
    for text in &sent {
        gateway.send_text("bob", text).await;
        gateway.send_text("carol", "the numbers of a mailbox are not dense").await;
        first.notification().await;
        cuts.push(first.position());
    }

    let mut resumed = Vec::new();
    for (seen, cut) in cuts.iter().enumerate() {
        let mut receiver = gateway.listen_after("bob", cut).await;
        assert_eq!(receiver.position(), *cut);
        assert_eq!(receiver.texts(sent.len() - seen).await, sent[seen..]);
        resumed.push(receiver);
    }
    gateway.send_text("bob", "nothing in between").await;
    for receiver in &mut resumed {
        assert_eq!(receiver.texts(1).await, ["nothing in between"]);
        assert_eq!(receiver.duplicates(), 0);
    }

    drop((first, resumed));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_gives_everything_retained_and_now_only_what_is_new() {
    let gateway = Gateway::start().await;
    gateway.send_text("bob", "old").await;
    let older = gateway.send_text("bob", "older than now").await;
    let mut from_start = gateway.listen_after("bob", "start").await;
    let mut by_default = gateway.listen("bob").await;
    let mut from_now = gateway.listen_after("bob", "now").await;
    assert_eq!(from_now.position(), older.position());

    gateway.send_text("bob", "new").await;
    assert_eq!(from_start.texts(3).await, ["old", "older than now", "new"]);
    assert_eq!(by_default.texts(3).await, ["old", "older than now", "new"]);
    assert_eq!(from_now.texts(1).await, ["new"]);

    drop((from_start, by_default, from_now));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_another_epoch_is_answered_with_a_gap_and_what_is_retained() {
    let elsewhere = Gateway::start().await;
    let foreign = elsewhere.send_text("bob", "lost with its log").await.position();
    elsewhere.stop().await;
    let gateway = Gateway::start().await;
    gateway.send_text("bob", "retained").await;

    let mut receiver = gateway.listen_after("bob", &foreign).await;
    expect_epoch_gap(&mut receiver, &foreign).await;
    assert_eq!(receiver.texts(1).await, ["retained"]);

    let mut stranger = gateway.listen_after("never seen", &foreign).await;
    expect_epoch_gap(&mut stranger, &foreign).await;
    gateway.send_text("never seen", "first").await;
    assert_eq!(stranger.texts(1).await, ["first"]);

    drop((receiver, stranger));
    gateway.until_metric(r#"gateway_gaps_total{reason="epoch"}"#, 2.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_beyond_the_head_counts_as_another_epoch() {
    let gateway = Gateway::start().await;
    let known = Place::of(&gateway.send_text("bob", "retained").await.body["position"]);
    for number in [known.number + 1_000, u64::MAX] {
        let beyond = format!("{}-{number}", known.epoch);
        let mut receiver = gateway.listen_after("bob", &beyond).await;
        expect_epoch_gap(&mut receiver, &beyond).await;
        assert_eq!(receiver.texts(1).await, ["retained"]);
    }
    gateway.stop().await;
}

/// The gap leads from the position that means nothing here to where the session starts.
async fn expect_epoch_gap(receiver: &mut Receiver, foreign: &str) {
    let start = receiver.welcome()["position"].clone();
    let expected = json!({"type": "gap", "after": foreign, "until": start, "reason": "epoch"});
    assert_eq!(receiver.gap().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_while_notifications_come_loses_and_doubles_nothing() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 5_000).await;
    let start = gateway.listen("bob").await.position();

    let sender = gateway.sender();
    let sending = tokio::spawn(async move {
        for first in (0..PUBLISHED).step_by(BATCH) {
            let batch: Value =
                (first..first + BATCH).map(|number| json!({"to": ["bob"], "data": number})).collect();
            sender.post("/v1/notifications/batch", &batch).await.accepted();
        }
    });
    let resuming = (1..=4).map(|each| receive_piecemeal(&gateway, start.clone(), 13 * each));
    let joining = (0..2).map(|_| join_late_again_and_again(&gateway, &sending));
    tokio::join!(futures_util::future::join_all(resuming), futures_util::future::join_all(joining));

    sending.await.expect("the sender succeeds");
    gateway.stop().await;
}

/// Reads `each` notifications a connection and resumes, until everything was read.
async fn receive_piecemeal(gateway: &Gateway, mut position: String, each: usize) {
    let mut expected = 0;
    while expected < PUBLISHED {
        let mut receiver = gateway.dial("bob").after(&position).acks_itself().open().await;
        for _ in 0..each.min(PUBLISHED - expected) {
            assert_eq!(receiver.notification().await["data"], expected);
            expected += 1;
        }
        assert_eq!(receiver.duplicates(), 0);
        position = receiver.position();
    }
}

/// Starts at the oldest and at the newest in turn: whatever comes first, the rest follows without a hole.
async fn join_late_again_and_again(gateway: &Gateway, sending: &tokio::task::JoinHandle<()>) {
    while !sending.is_finished() {
        let mut from_start = gateway.dial("bob").acks_itself().open().await;
        let known = gateway.user("bob").await.body["pending"].as_u64().expect("a number");
        for expected in 0..known {
            assert_eq!(from_start.notification().await["data"], expected);
        }
        let mut from_now = gateway.dial("bob").after("now").acks_itself().open().await;
        // The last ones may have been sent already: then nothing comes any more.
        for expected in known..(known + 10).min(PUBLISHED as u64) {
            assert_eq!(from_start.notification().await["data"], expected);
        }
        if let Some(first) = first_of_a_few(&mut from_now, sending).await {
            for expected in first + 1..(first + 10).min(PUBLISHED as u64) {
                assert_eq!(from_now.notification().await["data"], expected);
            }
        }
    }
}

async fn first_of_a_few(receiver: &mut Receiver, sending: &tokio::task::JoinHandle<()>) -> Option<u64> {
    let finished = async {
        while !sending.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        notification = receiver.notification() => notification["data"].as_u64(),
        () = finished => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_position_is_refused_by_name() {
    let gateway = Gateway::start().await;
    let epoch = Place::of(&gateway.send_text("bob", "waits").await.body["position"]).epoch;
    let malformed = [
        "START".to_owned(),
        "7".to_owned(),
        "-1".to_owned(),
        " start".to_owned(),
        epoch.clone(),
        format!("{epoch}-"),
        format!("{epoch}--1"),
        format!("{epoch}-01"),
        format!("{epoch}-1x"),
        format!("{epoch}-18446744073709551616"),
        format!("{}-1", epoch.to_uppercase().replace(char::is_numeric, "U")),
    ];
    for position in malformed {
        let refusal = gateway.dial("bob").after(&position).connect().await;
        refusal.map(|_| position).expect_err("refused").refused(400, Some("after"));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_while_away_is_announced_where_it_is_missing() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let mut present = gateway.listen("bob").await;
    let before = present.position();
    let brief = |text: &str| json!({"to": ["bob"], "body": text, "ttl_seconds": 1});
    let first = gateway.send_text("bob", "first").await;
    gateway.send(brief("gone")).await.accepted();
    let gone = gateway.send(brief("gone too")).await.accepted();
    gateway.send_text("bob", "last").await;

    hand.set(SOME_TIME_US + 2_000_000);
    gateway.until_metric("gateway_mailbox_expired_total", 2.0).await;
    let mut late = gateway.listen_after("bob", &before).await;
    assert_eq!(late.texts(1).await, ["first"]);
    let gap = json!({
        "type": "gap",
        "after": first.body["position"],
        "until": gone.body["position"],
        "count": 2,
        "reason": "expired",
    });
    assert_eq!(late.gap().await, gap);
    assert_eq!(late.texts(1).await, ["last"]);
    assert_eq!(present.texts(4).await, ["first", "gone", "gone too", "last"], "it came before it expired");

    drop((present, late));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_whose_last_notification_expired_says_so() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let before = gateway.listen("bob").await.position();
    gateway.until_sessions("bob", 0).await;
    let gone = gateway.send(json!({"to": ["bob"], "ttl_seconds": 1})).await.accepted();

    hand.set(SOME_TIME_US + 2_000_000);
    gateway.until_metric("gateway_mailbox_expired_total", 1.0).await;
    gateway.until_metric("gateway_known_users", 0.0).await;
    let mut late = gateway.listen_after("bob", &before).await;
    let gap = late.gap().await;
    assert_eq!((&gap["after"], &gap["reason"]), (&json!(before), &json!("expired")));
    assert!(Place::of(&gap["until"]).number >= Place::of(&gone.body["position"]).number, "{gap}");
    gateway.send_text("bob", "next").await;
    assert_eq!(late.texts(1).await, ["next"]);

    drop(late);
    gateway.stop().await;
}
