//! What a node refuses before it breaks: sessions beyond its places, waves that come at once, memory that runs short, clients
//! that talk too much.

use futures_util::future::join_all;
use gateway::config::{Bytes, Config, Rate, RateLimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{EventSource, Gateway, Receiver, within};

/// Practically no more than a burst.
fn only(burst: u32) -> RateLimit {
    RateLimit::At(Rate { period: std::time::Duration::from_secs(3_600), ..Rate::per_second(1, burst) })
}

fn limited(limit: &str) -> String {
    format!(r#"gateway_limited_total{{limit="{limit}"}}"#)
}

/// The first frame of a client that offers the subprotocol; one that is refused gets when to come back, and 1013.
async fn first_frame(gateway: &Gateway, user: &str) -> (Receiver, Value) {
    let dial = gateway.dial(user).subprotocol("notify.v1");
    let (mut receiver, _) = dial.connect().await.expect("who offers the subprotocol is upgraded");
    let frame = receiver.next_frame().await;
    (receiver, frame)
}

/// Lets `count` clients come at once; returns those that were welcomed, after each other one was sent away properly.
async fn wave(gateway: &Gateway, count: usize) -> Vec<Receiver> {
    let users: Vec<String> = (0..count).map(|number| format!("user{number}")).collect();
    let mut welcomed = Vec::new();
    for (mut receiver, frame) in join_all(users.iter().map(|user| first_frame(gateway, user))).await {
        if frame["type"] == "welcome" {
            welcomed.push(receiver);
            continue;
        }
        assert_eq!(frame["type"], "drain", "{frame}");
        assert!(frame["reconnect_in_ms"].is_u64(), "{frame}");
        assert_eq!(receiver.expect_closed().await, 1013);
    }
    welcomed
}

async fn started(configure: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::start_with(configure).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_as_many_sessions_as_it_may_however_many_come_at_once() {
    let gateway = started(|config| config.sessions.max_total = Some(5)).await;
    let mut welcomed = wave(&gateway, 40).await;
    assert_eq!(welcomed.len(), 5);
    assert_eq!(gateway.metric(&limited("sessions_per_node")).await, 35.0);
    let Err(refused) = gateway.dial("bob").connect().await else { panic!("there is no place") };
    refused.refused(503, None);
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1));
    let stream = EventSource::open(gateway.request(reqwest::Method::GET, "/sse/bob")).await;
    let Err(refused) = stream else { panic!("streams are sessions, too") };
    refused.refused(503, None);

    welcomed.pop().expect("there are five").close().await;
    gateway.until_metric(r#"gateway_sessions{transport="websocket"}"#, 4.0).await;
    let bob = gateway.listen("bob").await;
    drop((bob, welcomed));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_is_let_in_at_a_rate_and_the_rest_is_told_when_to_come_back() {
    let gateway = started(|config| config.limits.session_opens = only(7)).await;
    let welcomed = wave(&gateway, 30).await;
    assert_eq!(welcomed.len(), 7);
    assert_eq!(gateway.metric(&limited("session_opens")).await, 23.0);
    let rate_limited = r#"gateway_sessions_opened_total{result="rate_limited",transport="websocket"}"#;
    assert_eq!(gateway.metric(rate_limited).await, 23.0);
    let Err(refused) = gateway.dial("bob").connect().await else { panic!("there is no place for an hour") };
    refused.refused(503, None);
    assert!(
        refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 60),
        "it says how long"
    );
    drop(welcomed);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_generators_are_let_in_without_a_rate() {
    let gateway = started(|config| {
        config.limits.session_opens = only(1);
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    assert_eq!(wave(&gateway, 20).await.len(), 20);
    assert_eq!(gateway.metric(&limited("session_opens")).await, 0.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_of_memory_nothing_more_is_accepted_and_who_is_there_stays() {
    // Whatever runs takes more.
    let gateway = started(|config| config.limits.memory = Some(Bytes(1 << 20))).await;
    let refused = within("memory to be looked at", async {
        loop {
            let answer = gateway.send(serde_json::json!({"to": ["bob"], "body": "hello"})).await;
            if answer.status != 202 {
                return answer;
            }
        }
    });
    let refused = refused.await;
    refused.refused(503, None);
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1));
    assert!(wave(&gateway, 3).await.is_empty());
    assert!(gateway.metric(&limited("memory")).await >= 4.0);
    assert_eq!(gateway.metric("gateway_memory_admission_bytes").await, f64::from(1 << 20));
    // What was accepted before can still be read.
    assert_eq!(gateway.get("/v1/users/bob/notifications").await.status, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_talks_too_much_is_closed_with_1008_and_its_neighbour_is_not() {
    let gateway = started(|config| config.limits.inbound_frames = only(10)).await;
    // It acks itself, or the answers to the gateway's own questions would count.
    let mut loud = gateway.dial("bob").acks_itself().open().await;
    let mut quiet = gateway.listen("carol").await;
    for _ in 0..10 {
        loud.say(Message::Pong("x".into())).await;
    }
    gateway.send_text("bob", "still there").await;
    assert_eq!(loud.texts(1).await, ["still there"]);
    loud.say(Message::Pong("x".into())).await;
    assert_eq!(loud.expect_closed().await, 1008);
    assert_eq!(gateway.metric(&limited("inbound_frames")).await, 1.0);
    gateway.send_text("carol", "hello").await;
    assert_eq!(quiet.texts(1).await, ["hello"]);
    drop(quiet);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_of_what_came_are_free_and_empty_ones_are_not() {
    let gateway = started(|config| config.limits.inbound_frames = only(10)).await;
    let mut busy = gateway.dial("bob").acks_itself().open().await;
    for number in 0..50 {
        gateway.send_text("bob", &number.to_string()).await;
        assert_eq!(busy.texts(1).await, [number.to_string()]);
        let ack = format!(r#"{{"type":"ack","position":"{}"}}"#, busy.position());
        busy.say(Message::text(ack)).await;
    }
    assert_eq!(gateway.metric(&limited("inbound_frames")).await, 0.0);
    for _ in 0..11 {
        let again = format!(r#"{{"type":"ack","position":"{}"}}"#, busy.position());
        busy.say_if_open(Message::text(again)).await;
    }
    assert_eq!(busy.expect_closed().await, 1008);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_nobody_asked_for_are_not_kept() {
    let gateway = started(|config| config.http.body_timeout = std::time::Duration::from_secs(60)).await;
    // Announced and not sent: what would be read waits for it, what is not read answers at once.
    for path in ["/nothing", "/docs", "/openapi.json", "/v2/notifications"] {
        let mut socket = within("a connection", tokio::net::TcpStream::connect(gateway.address()))
            .await
            .expect("it listens");
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n");
        within("a write", socket.write_all(head.as_bytes())).await.expect("the head is taken");
        let mut answer = [0; 12];
        within("an answer", socket.read_exact(&mut answer)).await.expect("an answer comes before the body");
        assert!(matches!(&answer[9..], b"404" | b"405"), "{path}: {}", String::from_utf8_lossy(&answer));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_open_mode_no_rate_stands_in_the_way_of_a_load_test_from_one_address() {
    let gateway = Gateway::start().await;
    let welcomed = wave(&gateway, 300).await;
    assert_eq!(welcomed.len(), 300);
    let mut talker = gateway.listen("talker").await;
    for _ in 0..3_000 {
        talker.say(Message::Pong("x".into())).await;
    }
    gateway.send_text("talker", "still there").await;
    assert_eq!(talker.texts(1).await, ["still there"]);
    let metrics = gateway.metrics_text().await;
    let limited: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("gateway_limited_total{")).collect();
    assert!(limited.len() > 10 && limited.iter().all(|line| line.ends_with(" 0")), "{limited:?}");
    drop((welcomed, talker));
    gateway.stop().await;
}
