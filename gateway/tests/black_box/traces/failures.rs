//! What went wrong: which span says so, and which does not because the fault is not the gateway's.

use serde_json::{Value, json};

use super::{
    ACK, DELIVER, Listener, POST, PUBLISH, all_spans, assert_attributes, names, post, reserve_beyond, send,
    traced, traceparent,
};
use crate::harness::{Collector, Span};
use crate::process_harness::{Folder, Server, scrape};
use crate::raw_socket::{FINAL, RawSocket, TEXT, frame};

/// The one span of this name, and its status and `error.type`.
#[track_caller]
fn verdict<'a>(spans: &'a [Span], name: &str) -> (bool, Option<&'a str>) {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", names(spans));
    (found[0].failed(), found[0].attribute("error.type").as_str())
}

#[tokio::test]
async fn a_send_that_the_log_does_not_take_fails_in_both_spans() {
    let collector = Collector::start();
    let folder = Folder::new();
    let reserve = reserve_beyond(folder.path());
    let variables = collector.variables(&[("GATEWAY_LOG_DISK_RESERVE", &reserve)]);
    let server = Server::start_on_disk(folder.path(), &variables).await;
    let notification = json!({"to": ["bob"], "body": "hello"});
    let (status, problem) =
        post(server.addresses.http, "/v1/notifications", Some(&traceparent("01")), &notification).await;
    assert_eq!(status, 503, "{problem}");
    let spans = all_spans(server, &collector).await;
    assert_eq!(verdict(&spans, POST), (true, Some("503")));
    let request = spans.iter().find(|span| span.name == POST).unwrap();
    assert_eq!(request.attribute("http.response.status_code"), 503);
    let (failed, error) = verdict(&spans, PUBLISH);
    assert!(failed && error.is_some_and(|error| !error.is_empty()), "{spans:#?}");
    let publish = spans.iter().find(|span| span.name == PUBLISH).unwrap();
    assert!(publish.is_child_of(request));
    assert!(publish.attribute("gateway.position").is_null(), "it has no place: {publish:#?}");
}

#[tokio::test]
async fn a_send_that_every_mailbox_rejects_fails_in_both_spans() {
    let collector = Collector::start();
    let limits = [("GATEWAY_MAILBOX_MAX_NOTIFICATIONS", "1"), ("GATEWAY_MAILBOX_OVERFLOW", "reject")];
    let server = traced(&collector, &limits).await;
    let http = server.addresses.http;
    send(http, &["bob"], None).await;
    let notification = json!({"to": ["bob"], "body": "no room"});
    let (status, problem) = post(http, "/v1/notifications", Some(&traceparent("01")), &notification).await;
    assert_eq!(status, 507, "{problem}");
    let mut spans = all_spans(server, &collector).await;
    spans.retain(|span| span.trace == super::SENDERS_TRACE);
    assert_eq!(verdict(&spans, POST), (true, Some("507")));
    let (failed, error) = verdict(&spans, PUBLISH);
    assert!(failed && error.is_some_and(|error| !error.is_empty()), "{spans:#?}");
}

#[tokio::test]
async fn a_senders_own_mistake_is_no_failure_of_the_request() {
    for (notification, expected) in [
        (json!({"to": []}), 400),
        (json!({"to": ["bob"], "size": 7}), 400),
        (json!({"to": ["bob"], "body": "x".repeat(40_000)}), 413),
    ] {
        let collector = Collector::start();
        let server = traced(&collector, &[]).await;
        let (status, problem) = post(server.addresses.http, "/v1/notifications", None, &notification).await;
        assert_eq!(status, expected, "{problem}");
        let spans = all_spans(server, &collector).await;
        assert_eq!(verdict(&spans, POST), (false, None), "{notification}");
        let request = spans.iter().find(|span| span.name == POST).unwrap();
        assert_attributes(request, &json!({"http.response.status_code": expected}));
        assert!(
            spans.iter().filter(|span| span.name == PUBLISH).all(Span::failed),
            "nothing was published: {spans:#?}"
        );
    }
}

#[tokio::test]
async fn a_repeated_request_is_published_once_and_fails_nowhere() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    let client = reqwest::Client::new();
    let mut accepted = Vec::new();
    for _ in 0..2 {
        let request = client.post(format!("{}/v1/notifications", server.url()));
        let request = request.header("idempotency-key", "once").json(&json!({"to": ["bob"], "body": "once"}));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202);
        accepted.push(answer.json::<Value>().await.unwrap()["id"].clone());
    }
    assert_eq!(accepted[0], accepted[1]);
    bob.notification().await;
    drop(bob);
    let spans = all_spans(server, &collector).await;
    assert!(!spans.iter().any(Span::failed), "{spans:#?}");
    assert_eq!(names(&spans).into_iter().filter(|name| *name == DELIVER).count(), 1);
    // Both name the one that there is.
    let publishes: Vec<&Span> = spans.iter().filter(|span| span.name == PUBLISH).collect();
    assert!(
        publishes.iter().all(|span| *span.attribute("messaging.message.id") == accepted[0]),
        "{spans:#?}"
    );
    let repeated = publishes.iter().filter(|span| *span.attribute("gateway.repeated") == true).count();
    assert_eq!((publishes.len(), repeated), (2, 1));
}

#[tokio::test]
async fn a_session_that_is_cut_while_it_writes_leaves_a_failed_delivery() {
    const STALLS: &str = "gateway_ws_write_stalls_total";
    let collector = Collector::start();
    // Room for every span of the deliveries: none of them is dropped for want of it.
    let roomy = [("GATEWAY_MAILBOX_MAX_BYTES", "64MiB"), ("OTEL_BSP_MAX_QUEUE_SIZE", "10000")];
    let server = traced(&collector, &roomy).await;
    let (http, ops) = (server.addresses.http, server.addresses.ops);
    // It does not read, and its kernel holds next to nothing for it.
    let bob = Listener::upgrade(RawSocket::connect_narrow(http).await, "bob").await;
    // No more: of a larger batch not each delivery is recorded.
    let batch: Vec<_> = (0..16).map(|_| json!({"to": ["bob"], "body": "x".repeat(30_000)})).collect();
    let mut batches = 0;
    while scrape(ops).await.value(STALLS) == 0.0 {
        assert!(batches < 80, "kernels do not hold 40 MB for a socket");
        let (status, _) = post(http, "/v1/notifications/batch", None, &json!(batch)).await;
        assert_eq!(status, 202);
        batches += 1;
    }
    drop(bob);
    let failed = collector
        .until("a failed delivery", |spans| {
            spans.iter().find(|span| span.name == DELIVER && span.failed()).cloned()
        })
        .await;
    assert!(failed.start <= failed.end, "{failed:#?}");
    let spans = all_spans(server, &collector).await;
    assert!(
        !spans.iter().any(|span| span.name == ACK && span.parent.as_ref() == Some(&failed.id)),
        "what was not written is not acked"
    );
    let delivers: Vec<&Span> = spans.iter().filter(|span| span.name == DELIVER).collect();
    assert!(delivers.iter().any(|span| !span.failed()), "what the kernel took was written");
    assert!(delivers.len() <= 16 * batches, "each at most once: {}", delivers.len());
}

#[tokio::test]
async fn a_session_that_is_closed_for_its_own_fault_after_it_was_served_leaves_no_failed_delivery() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    send(server.addresses.http, &["bob"], None).await;
    bob.notification().await;
    collector.span(DELIVER, &json!({})).await;
    bob.socket.write(&frame(FINAL | TEXT, b"this is no frame")).await;
    bob.socket.end().await;
    let spans = all_spans(server, &collector).await;
    assert_eq!(verdict(&spans, DELIVER), (false, None));
    assert!(!names(&spans).contains(&ACK), "nobody acked: {:?}", names(&spans));
}
