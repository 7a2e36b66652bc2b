//! Server-sent events: the same frames as over a socket, resumed by `Last-Event-ID`, with backpressure and a drain.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, EventSource, Gateway, Place};

const SESSIONS: &str = r#"gateway_sessions{transport="sse"}"#;

fn opened(result: &str) -> String {
    format!(r#"gateway_sessions_opened_total{{result="{result}",transport="sse"}}"#)
}

async fn resume(gateway: &Gateway, path: &str, last_event_id: &str) -> Result<EventSource, Answer> {
    EventSource::open(gateway.request(Method::GET, path).header("last-event-id", last_event_id)).await
}

async fn open(gateway: &Gateway, path: &str) -> EventSource {
    EventSource::open(gateway.request(Method::GET, path)).await.expect("the stream is not refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_with_a_welcome_and_brings_what_waits_and_what_comes() {
    let gateway = Gateway::start().await;
    let waits = gateway.send_text("bob", "waits").await;
    let mut stream = open(&gateway, "/sse/bob").await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert_eq!(stream.header("cache-control"), "no-store");
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let welcome = stream.next().await.expect("a welcome");
    assert_eq!((welcome.kind.as_str(), &welcome.frame["user"]), ("welcome", &json!("bob")));
    assert_eq!(welcome.id.as_deref(), welcome.frame["position"].as_str());
    assert_eq!(welcome.frame["head"], waits.body["position"]);
    assert_eq!((gateway.metric(SESSIONS).await, gateway.metric(&opened("accepted")).await), (1.0, 1.0));
    assert_eq!(gateway.user("bob").await.body["sessions"], 1);

    let event = stream.event().await;
    assert_eq!(event.frame["body"], "waits");
    assert_eq!(event.frame["prev"], welcome.frame["position"]);
    let live = gateway.send_text("bob", "line one\nline two").await;
    assert_eq!(live.body["online"], 1);
    assert_eq!(stream.texts(1).await, ["line one\nline two"], "one line of JSON all the same");
    assert_eq!(stream.last_id, live.position());

    assert_eq!(gateway.user("bob").await.body["pending"], 2, "nothing acks by itself");
    gateway.ack("bob", &live.position()).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 0);
    drop(stream);
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_behind_the_last_event_whatever_its_address_says() {
    let gateway = Gateway::start().await;
    gateway.send_text("bob", "a").await;
    let mut stream = gateway.stream("bob").await;
    assert_eq!(stream.texts(1).await, ["a"]);
    let last_id = stream.last_id.clone();
    drop(stream);
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.send_text("bob", "b").await;

    for path in ["/sse/bob", "/sse/bob?after=start", "/sse/bob?after=now&ack=client"] {
        let mut resumed = resume(&gateway, path, &last_id).await.expect("it is a position");
        let welcome = resumed.next().await.expect("a welcome");
        assert_eq!((welcome.kind.as_str(), welcome.id), ("welcome", Some(last_id.clone())), "{path}");
        assert_eq!(resumed.texts(1).await, ["b"], "{path}");
    }
    let mut again = gateway.stream("bob").await;
    assert_eq!(again.texts(2).await, ["a", "b"], "nothing was acked");
    let mut now = open(&gateway, "/sse/bob?after=now").await;
    now.next().await.expect("a welcome");
    gateway.send_text("bob", "c").await;
    assert_eq!(now.texts(1).await, ["c"]);
    drop((again, now));
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_a_gap_and_its_id_leads_behind_it() {
    let gateway = Gateway::start().await;
    let start = gateway.stream("bob").await.last_id.clone();
    gateway.until_metric(SESSIONS, 0.0).await;
    let withdrawn = gateway.send_text("bob", "by mistake").await;
    gateway.withdraw(&withdrawn).await;
    let mut stream = resume(&gateway, "/sse/bob", &start).await.expect("it is a position");
    stream.next().await.expect("a welcome");
    let gap = stream.event().await;
    assert_eq!((gap.kind.as_str(), &gap.frame["reason"]), ("gap", &json!("withdrawn")));
    assert_eq!(gap.id.as_deref(), gap.frame["until"].as_str());
    assert_eq!(gap.frame["until"], withdrawn.body["position"]);
    gateway.until_metric(r#"gateway_gaps_total{reason="withdrawn"}"#, 1.0).await;

    let mut foreign = resume(&gateway, "/sse/bob", "0000000000000-7").await.expect("it is a position");
    let welcome = foreign.next().await.expect("a welcome");
    let gap = foreign.event().await;
    assert_eq!((&gap.frame["reason"], &gap.frame["after"]), (&json!("epoch"), &json!("0000000000000-7")));
    assert_eq!(gap.frame["until"], welcome.frame["position"]);
    drop((stream, foreign));
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_nothing_to_say_beats() {
    let gateway = Gateway::start_with(|config| config.sessions.heartbeat = Duration::from_millis(100)).await;
    let mut stream = gateway.stream("bob").await;
    let position = stream.last_id.clone();
    for _ in 0..3 {
        let beat = stream.next().await.expect("a heartbeat");
        assert_eq!(
            (beat.kind.as_str(), beat.id, beat.frame),
            ("heartbeat", None, json!({"type": "heartbeat"}))
        );
    }
    assert_eq!(stream.last_id, position, "a heartbeat moves nothing");
    drop(stream);
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_gateway_says_when_to_come_back_and_the_stream_ends() {
    let gateway = Gateway::start().await;
    let mut streams = Vec::new();
    for user in ["bob", "carol"] {
        streams.push((user, gateway.stream(user).await));
    }
    gateway.send(json!({"to": ["bob", "carol"], "body": "last words"})).await.accepted();
    let stopping = tokio::spawn(gateway.shut_down());
    let mut advice = Vec::new();
    for (user, stream) in &mut streams {
        assert_eq!(stream.texts(1).await, ["last words"], "{user}");
        let drain = stream.event().await;
        assert_eq!((drain.kind.as_str(), &drain.id), ("drain", &None));
        let reconnect_in_ms = drain.frame["reconnect_in_ms"].as_u64().expect("milliseconds");
        assert!(
            (3_000..18_000).contains(&reconnect_in_ms),
            "behind the successor's start: {reconnect_in_ms}"
        );
        assert_eq!(stream.retry, Some(reconnect_in_ms), "what an `EventSource` heeds by itself");
        advice.push(reconnect_in_ms);
        assert_eq!(stream.expect_closed().await, 1012);
    }
    assert_ne!(advice[0], advice[1], "they do not come back at once");
    assert_eq!(stopping.await.expect("no panic"), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_stop() {
    let gateway = Gateway::start_with(|config| config.shutdown.timeout = Duration::from_secs(60)).await;
    let stream = gateway.stream("bob").await;
    let text = "x".repeat(30_000);
    for _ in 0..300 {
        gateway.send_text("bob", &text).await;
    }
    let started = tokio::time::Instant::now();
    assert_eq!(gateway.shut_down().await, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_read_the_same_mailbox_and_one_ack_is_the_users() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.stream("bob").await;
    let mut second = gateway.stream("bob").await;
    let mut socket = gateway.listen("bob").await;
    let sent = gateway.send_text("bob", "to all of them").await;
    assert_eq!((&sent.body["recipients"], &sent.body["online"]), (&json!(1), &json!(1)));
    assert_eq!(stream.texts(1).await, ["to all of them"]);
    assert_eq!(second.texts(1).await, ["to all of them"]);
    assert_eq!(socket.texts(1).await, ["to all of them"]);
    assert_eq!(gateway.user("bob").await.body["sessions"], 3);
    gateway.ack("bob", &sent.position()).await;
    let start = Place::of(&json!(gateway.stream("bob").await.last_id)).number;
    assert!(start >= Place::of(&sent.body["position"]).number, "a new session begins behind what is acked");
    drop((stream, second, socket));
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_user_and_a_session_too_many_see_the_stream_end() {
    let gateway = Gateway::start_with(|config| config.sessions.max_per_user = 1).await;
    let mut displaced = gateway.stream("bob").await;
    let mut disconnected = gateway.stream("bob").await;
    assert_eq!(displaced.expect_closed().await, 4009, "one session is all there may be");
    let answer = gateway.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert_eq!(answer.body["sessions"], 1);
    assert_eq!(disconnected.expect_closed().await, 4010);
    gateway.until_metric(SESSIONS, 0.0).await;
    for code in ["4009", "4010"] {
        let closed = format!(r#"gateway_sessions_closed_total{{code="{code}",initiator="server"}}"#);
        assert_eq!(gateway.metric(&closed).await, 1.0, "{code}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_takes_is_timed_like_what_a_socket_takes() {
    const WRITTEN: &str = r#"gateway_push_latency_seconds_count{stage="written"}"#;
    const STORED: &str = "gateway_stored_delivery_age_seconds_count";
    let gateway = Gateway::start().await;
    assert_eq!(gateway.send_text("bob", "waits").await.status, 202);
    let mut stream = gateway.stream("bob").await;
    stream.texts(1).await;
    gateway.until_metric(STORED, 1.0).await;
    assert_eq!(gateway.metric(WRITTEN).await, 0.0);
    assert_eq!(gateway.send_text("bob", "now").await.status, 202);
    stream.texts(1).await;
    gateway.until_metric(WRITTEN, 1.0).await;
    assert_eq!(gateway.metric(STORED).await, 1.0);
    drop(stream);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_has_no_session_any_more() {
    let gateway = Gateway::start().await;
    let stream = gateway.stream("bob").await;
    gateway.until_metric(SESSIONS, 1.0).await;
    drop(stream);
    gateway.until_metric(SESSIONS, 0.0).await;
    assert_eq!(gateway.user("bob").await.body["sessions"], 0);
    assert_eq!(gateway.send_text("bob", "nobody there").await.body["online"], 0);
    let closed = r#"gateway_sessions_closed_total{code="other",initiator="client"}"#;
    assert_eq!(gateway.metric(closed).await, 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_gets_no_stream_and_one_of_this_machine_may_read_it() {
    let gateway = Gateway::start().await;
    let from = |origin: &str| gateway.request(Method::GET, "/sse/bob").header("origin", origin);
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        let refusal = EventSource::open(from(origin)).await.expect_err("a page may not listen");
        refusal.refused(403, None);
        assert_eq!(refusal.header("access-control-allow-origin"), "", "{origin}");
    }
    assert_eq!(gateway.metric(&opened("origin")).await, 3.0);
    let rebound = gateway.request(Method::GET, "/sse/bob").header("host", "evil.example");
    EventSource::open(rebound).await.expect_err("DNS rebinding").refused(403, None);
    assert_eq!(gateway.user("bob").await.body["sessions"], 0);

    let development = "http://localhost:5173";
    let mut stream = EventSource::open(from(development)).await.expect("a page of this machine");
    assert_eq!(stream.header("access-control-allow-origin"), development);
    assert_eq!(stream.next().await.expect("a welcome").kind, "welcome");
    drop(stream);
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_a_stream_cannot_fulfil_is_refused_by_field() {
    let gateway = Gateway::start().await;
    let known = Place::of(&gateway.send_text("bob", "waits").await.body["position"]);
    for (path, field) in [
        ("/sse/bob?ack=auto", "ack"),
        ("/sse/bob?ack=never", "ack"),
        ("/sse/bob?after=7", "after"),
        ("/sse/a%0Ab", "user"),
    ] {
        let refusal = EventSource::open(gateway.request(Method::GET, path)).await.expect_err(path);
        refusal.refused(400, Some(field));
    }
    for malformed in ["7", "start", &format!("{}-01", known.epoch)] {
        let refusal = resume(&gateway, "/sse/bob", malformed).await.expect_err("no position");
        refusal.refused(400, Some("Last-Event-ID"));
    }
    assert_eq!(gateway.metric(&opened("bad_request")).await, 1.0, "the other ones reached no handler");
    assert_eq!(gateway.user("bob").await.body["sessions"], 0);
    gateway.stop().await;
}
