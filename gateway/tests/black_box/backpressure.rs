//! Readers that are slow, mailboxes that are full: what is lost is announced, counted, and nobody else's.

use std::time::Duration;

use gateway::config::{Bytes, Config};
use gateway::domain::OverflowPolicy;
use serde_json::{Value, json};

use crate::harness::{Gateway, Place, Receiver};

/// Notifications that overwhelm a reader who does not read: more than kernel and mailbox hold together.
const FLOOD: u64 = 600;

/// How many of them travel in one request; a mailbox holds more.
const BATCH: u64 = 20;

/// Bytes of each.
const LARGE: usize = 24 * 1024;

const MAILBOX: u32 = 50;

/// What the reader's kernel holds for it.
const RECEIVE_BUFFER: u32 = 128 * 1024;

const OVERFLOWED: &str = r#"gateway_mailbox_dropped_total{reason="overflow"}"#;
const REJECTED: &str = r#"gateway_mailbox_dropped_total{reason="rejected"}"#;

fn small_mailboxes(config: &mut Config) {
    config.mailbox.max_notifications = MAILBOX;
    config.mailbox.max_bytes = Bytes(16 << 20);
}

fn large_batch(users: &[&str], first: u64) -> Value {
    let text = "x".repeat(LARGE);
    (first..first + BATCH).map(|number| json!({"to": users, "data": number, "body": text})).collect()
}

async fn flood(gateway: &Gateway, users: &[&str], quick: &mut Receiver) {
    let sender = gateway.sender();
    for first in (0..FLOOD).step_by(usize::try_from(BATCH).expect("a small number")) {
        sender.post("/v1/notifications/batch", &large_batch(users, first)).await.accepted();
        for number in first..first + BATCH {
            assert_eq!(quick.notification().await["data"], number, "nobody slows the quick reader down");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_one_truthful_gap_and_slows_nobody_down() {
    let gateway = Gateway::start_with(small_mailboxes).await;
    let mut slow = gateway.dial("slow").receive_buffer(RECEIVE_BUFFER).open().await;
    let mut quick = gateway.listen("quick").await;

    flood(&gateway, &["slow", "quick"], &mut quick).await;

    let mut expected = 0;
    let mut gaps = 0;
    while expected < FLOOD {
        let before = slow.position();
        let frame = slow.next_event().await;
        if frame["type"] == "gap" {
            gaps += 1;
            assert_eq!(frame["after"], before, "it begins where the reader stands");
            assert_eq!(frame["reason"], "overflow");
            expected += frame["count"].as_u64().expect("the gateway knows how many are missing");
            let next = slow.notification().await;
            assert_eq!(next["data"], expected, "exactly as many are missing as the gap says");
            assert_eq!(next["prev"], frame["until"], "the gap ends where the next one begins");
        } else {
            assert_eq!(frame["data"], expected);
        }
        expected += 1;
    }
    assert_eq!(gaps, 1, "one hole, one gap");
    assert_eq!((slow.duplicates(), quick.duplicates()), (0, 0));
    assert_eq!(gateway.metric(r#"gateway_gaps_total{reason="overflow"}"#).await, 1.0);

    drop((slow, quick));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_overflowed_while_away_is_counted_as_it_is_announced() {
    let gateway = Gateway::start_with(small_mailboxes).await;
    let before = gateway.listen("bob").await.position();
    let last_lost = send_numbers(&gateway, "bob", 20).await;
    send_numbers(&gateway, "bob", u64::from(MAILBOX)).await;
    assert_eq!(gateway.user("bob").await.body["pending"], MAILBOX);

    let mut receiver = gateway.listen_after("bob", &before).await;
    let gap = receiver.gap().await;
    let expected =
        json!({"type": "gap", "after": before, "until": last_lost, "count": 20, "reason": "overflow"});
    assert_eq!(gap, expected);
    for number in 0..MAILBOX {
        assert_eq!(receiver.notification().await["data"], number);
    }
    assert_eq!(gateway.metric(OVERFLOWED).await, 20.0);
    assert_eq!(gateway.metric(REJECTED).await, 0.0);
    assert_eq!(gateway.metric(r#"gateway_mailbox_enqueued_total{priority="normal"}"#).await, 70.0);
    assert_eq!(gateway.metric("gateway_mailbox_depth").await, f64::from(MAILBOX));

    drop(receiver);
    gateway.stop().await;
}

/// Sends so many and returns the last one's position.
async fn send_numbers(gateway: &Gateway, user: &str, count: u64) -> String {
    let mut position = String::new();
    for number in 0..count {
        position = gateway.send(json!({"to": [user], "data": number})).await.accepted().position();
    }
    position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_is_bound_by_bytes_too() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_bytes = Bytes(100_000)).await;
    for number in 0..10 {
        gateway.send(json!({"to": ["bob"], "data": number, "body": "x".repeat(24_000)})).await.accepted();
    }
    let bob = gateway.user("bob").await;
    assert_eq!(bob.body["pending"], 4);
    assert!(bob.body["pending_bytes"].as_u64().is_some_and(|bytes| (96_000..=100_000).contains(&bytes)));
    let mut receiver = gateway.listen("bob").await;
    for number in 6..10 {
        assert_eq!(receiver.notification().await["data"], number);
    }
    assert_eq!(gateway.metric(OVERFLOWED).await, 6.0);
    drop(receiver);
    gateway.stop().await;
}

async fn send_with_priority(gateway: &Gateway, text: &str, priority: &str) -> Value {
    let notification = json!({"to": ["bob"], "body": text, "priority": priority});
    gateway.send(notification).await.accepted().body["position"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overflow_takes_the_lowest_priority_first_and_keeps_the_order() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 4).await;
    let before = gateway.listen("bob").await.position();
    let mut places = Vec::new();
    for (text, priority) in [
        ("high", "high"),
        ("low", "low"),
        ("normal", "normal"),
        ("low again", "low"),
        ("newer", "normal"),
        ("newest", "high"),
    ] {
        places.push(send_with_priority(&gateway, text, priority).await);
    }

    let mut receiver = gateway.listen_after("bob", &before).await;
    let gap = |after: usize, until: usize| json!({"type": "gap", "after": places[after], "until": places[until], "count": 1, "reason": "overflow"});
    assert_eq!(receiver.texts(1).await, ["high"]);
    assert_eq!(receiver.gap().await, gap(0, 1));
    assert_eq!(receiver.texts(1).await, ["normal"]);
    assert_eq!(receiver.gap().await, gap(2, 3));
    assert_eq!(receiver.texts(2).await, ["newer", "newest"]);
    assert_eq!(gateway.metric(OVERFLOWED).await, 2.0);

    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_that_finds_only_higher_priorities_goes_itself_and_is_announced() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 3).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    let mut last = Value::Null;
    for text in ["one", "two", "three"] {
        last = send_with_priority(&gateway, text, "high").await;
    }
    assert_eq!(receiver.texts(3).await, ["one", "two", "three"]);

    let newcomer = send_with_priority(&gateway, "too low", "low").await;
    let gap = json!({"type": "gap", "after": last, "until": newcomer, "count": 1, "reason": "overflow"});
    assert_eq!(receiver.gap().await, gap);
    assert_eq!(gateway.metric(OVERFLOWED).await, 1.0);
    send_with_priority(&gateway, "four", "high").await;
    assert_eq!(receiver.texts(1).await, ["four"]);

    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_policy_reject_the_sender_learns_who_is_full() {
    let gateway = Gateway::start_with(|config| {
        config.mailbox.max_notifications = 2;
        config.mailbox.overflow = OverflowPolicy::Reject;
    })
    .await;
    gateway.send_text("full", "one").await;
    let last = gateway.send_text("full", "two").await;

    gateway.send(json!({"to": ["full"], "body": "refused"})).await.refused(507, None);
    let partly = gateway.send(json!({"to": ["full", "free"], "body": "three"})).await.accepted();
    assert_eq!(partly.body["recipients"], 1);
    assert_eq!(partly.body["rejected"], json!(["full"]));
    assert_eq!(gateway.metric(REJECTED).await, 2.0);
    assert_eq!(gateway.metric(OVERFLOWED).await, 0.0);

    assert_eq!(gateway.user("full").await.body["position"], last.body["position"]);
    let (mut full, mut free) = (gateway.listen("full").await, gateway.listen("free").await);
    assert_eq!(full.texts(2).await, ["one", "two"]);
    assert_eq!(free.texts(1).await, ["three"]);
    let series = |result: &str| format!(r#"gateway_notifications_total{{result="{result}",target="user"}}"#);
    assert_eq!(gateway.metric(&series("rejected")).await, 1.0);
    assert_eq!(gateway.metric(&series("accepted")).await, 2.0);

    drop((full, free));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_disconnected() {
    let gateway = Gateway::start_with(|config| {
        small_mailboxes(config);
        config.sessions.write_timeout = Duration::from_millis(200);
    })
    .await;
    let stuck = gateway.dial("stuck").receive_buffer(RECEIVE_BUFFER).open().await;
    let mut quick = gateway.listen("quick").await;
    flood(&gateway, &["stuck", "quick"], &mut quick).await;

    gateway.until_sessions("stuck", 0).await;
    gateway.until_metric(r#"gateway_sessions_closed_total{code="4108",initiator="server"}"#, 1.0).await;
    gateway.send_text("quick", "alive").await;
    assert_eq!(quick.texts(1).await, ["alive"]);
    assert_eq!(Place::of(&gateway.user("stuck").await.body["position"]).epoch.len(), 13);

    drop((stuck, quick));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_does_not_read_does_not_pile_up_in_the_kernel() {
    let gateway = Gateway::start_with(|config| {
        config.sessions.write_timeout = Duration::from_millis(500);
    })
    .await;
    let stuck = gateway.dial("stuck").receive_buffer(RECEIVE_BUFFER).open().await;
    // Less than the kernel would take for one connection, if it were let.
    let text = "x".repeat(16 * 1024);
    for _ in 0..100 {
        gateway.send_text("stuck", &text).await;
    }
    gateway.until_metric(r#"gateway_sessions_closed_total{code="4108",initiator="server"}"#, 1.0).await;
    drop(stuck);
    gateway.stop().await;
}
