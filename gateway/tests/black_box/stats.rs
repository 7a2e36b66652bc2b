//! `GET /v1/stats`: what the console draws, true without a scrape and without a walk.

use serde_json::{Value, json};

use crate::harness::{Gateway, within};

async fn stats(gateway: &Gateway) -> Value {
    let answer = gateway.get("/v1/stats").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Asks until `total` is `expected`: acks become final a moment after they are sent.
async fn until_total(gateway: &Gateway, total: &str, expected: u64) -> Value {
    let reached = async {
        loop {
            let stats = stats(gateway).await;
            if stats["totals"][total] == expected {
                return stats;
            }
        }
    };
    within(&format!("{total} to become {expected}"), reached).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_notification_is_counted_once_from_the_offer_to_its_end() {
    let gateway = Gateway::start().await;
    let nothing = stats(&gateway).await;
    let totals = nothing["totals"].as_object().expect("an object");
    assert!(totals.len() == 9 && totals.values().all(|count| count == 0), "{nothing}");
    assert_eq!(nothing["sessions"], json!({"websocket": 0, "sse": 0}));

    // One for two who are away, one of which is acked, one withdrawn; one that takes another's place; one refused.
    let sent = gateway.send(json!({"to": ["bob", "carol"], "body": "1"})).await.accepted();
    for body in ["2", "3"] {
        gateway.send(json!({"to": ["dave"], "body": body, "collapse_key": "same"})).await.accepted();
    }
    gateway.send(json!({"to": [], "body": "nobody"})).await.refused(400, Some("to"));
    let waiting = stats(&gateway).await;
    assert_eq!(waiting["totals"]["notifications_accepted"], 3);
    assert_eq!(waiting["totals"]["notifications_refused"], 1);
    assert_eq!(waiting["totals"]["recipients_accepted"], 4);
    assert_eq!(waiting["totals"]["collapsed"], 1);
    assert_eq!(waiting["totals"]["frames_written"], 0);
    assert_eq!((&waiting["pending"], &waiting["users_known"]), (&json!(3), &json!(3)));
    assert_eq!(waiting["users_online"], 0);

    let mut receiver = gateway.listen("bob").await;
    assert_eq!(receiver.texts(1).await, ["1"]);
    gateway.ack("bob", &sent.position()).await;
    let acked = until_total(&gateway, "acked", 1).await;
    assert_eq!(acked["totals"]["frames_written"], 1);
    assert_eq!((&acked["users_online"], &acked["sessions"]["websocket"]), (&json!(1), &json!(1)));
    let id = sent.body["id"].as_str().expect("an id");
    let path = format!("/v1/notifications/{id}");
    let withdrawn = crate::harness::Answer::of(gateway.request(reqwest::Method::DELETE, &path)).await;
    assert_eq!(withdrawn.status, 200, "{}", withdrawn.body);
    let last = until_total(&gateway, "withdrawn", 1).await;
    assert_eq!(last["pending"], 1, "dave's");
    assert!(last["uptime_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_often_does_not_disturb_what_a_scrape_finds() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 10).await;
    for _ in 0..5 {
        gateway.send_text("bob", "waits").await;
    }
    stats(&gateway).await;
    // The fullest mailbox since the last scrape: a look that reset it would hide the peak.
    assert_eq!(gateway.metric("gateway_mailbox_high_watermark_ratio").await, 0.5);
    gateway.stop().await;
}
