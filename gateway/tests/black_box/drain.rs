//! Stopping: everybody is told when to come back, nobody can hold it up, and newcomers are turned away.

use std::time::Duration;

use futures_util::future::join_all;
use gateway::config::LogStore;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::process_harness::{Folder, Running, scrape, send, until_metric, until_some};
use crate::raw_socket::{CLOSE, FINAL, PING, PONG, RawSocket, TEXT, frame, handshake};

const HALF_A_SEND: &str = "POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
     Content-Length: 28\r\n\r\n{\"to\":[\"bob\"],";
const OTHER_HALF: &str = "\"body\":\"late\"}";

/// A gateway that is stopping and cannot end before the returned sockets have finished their requests.
async fn stopping_with(
    requests: &[&str],
) -> (Vec<RawSocket>, impl Future<Output = Result<(), gateway::app::RunError>> + use<>) {
    let gateway = Running::start_with(|config| config.shutdown.timeout = Duration::from_secs(60)).await;
    let mut sockets = Vec::new();
    for request in requests {
        let mut socket = RawSocket::connect(gateway.addresses.http).await;
        socket.write(request.as_bytes()).await;
        sockets.push(socket);
    }
    let ops = gateway.addresses.ops;
    until_metric(ops, "http_server_active_requests", requests.len() as f64).await;
    let end = gateway.stop();
    until_metric(ops, "gateway_draining", 1.0).await;
    (sockets, end)
}

#[tokio::test]
async fn every_socket_is_told_to_come_back_at_a_time_of_its_own() {
    const SOCKETS: usize = 200;
    let gateway = Running::start_with(|_| {}).await;
    let (address, metrics) = (gateway.addresses.http, gateway.metrics.clone());
    let names: Vec<String> = (0..SOCKETS).map(|number| format!("user{number}")).collect();
    let sockets = join_all(names.iter().map(|name| RawSocket::open(address, name))).await;
    let started = Instant::now();
    let end = gateway.stop();
    let advice = join_all(sockets.into_iter().map(async |mut socket| {
        let drain = socket.frame_of_type("drain").await;
        let close = socket.frame_of(CLOSE).await;
        assert_eq!(close.close_code(), 1012);
        assert_eq!(&close.payload[2..], b"drain");
        socket.end().await;
        drain["reconnect_in_ms"].as_u64().unwrap()
    }))
    .await;
    assert_eq!(end.await, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(10), "within shutdown.timeout: {:?}", started.elapsed());

    let mut tenths = [0; 10];
    for milliseconds in &advice {
        assert!((3_000..18_000).contains(milliseconds), "behind the successor's start: {milliseconds}");
        tenths[usize::try_from((milliseconds - 3_000) * 10 / 15_000).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (18..=22).contains(count)), "unevenly spread: {tenths:?}");
    assert_eq!(metrics.sessions_closed.with_label_values(&["1012", "server"]).get(), SOCKETS as u64);
    assert_eq!(metrics.connections.get(), 0, "no connection is left");
}

#[tokio::test]
async fn what_was_accepted_before_the_stop_arrives_before_the_drain() {
    let gateway = Running::start_with(|_| {}).await;
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    let (status, _) = send(gateway.addresses.http, &["bob"], "last words").await;
    assert_eq!(status, 202);
    let end = gateway.stop();
    let frames = [socket.frame().await, socket.frame().await, socket.frame().await];
    assert_eq!(frames[0].json()["body"], "last words");
    assert_eq!(frames[1].json()["type"], "drain");
    assert_eq!(frames[2].close_code(), 1012);
    socket.end().await;
    drop(socket);
    assert_eq!(end.await, Ok(()));
}

#[tokio::test]
async fn sockets_that_never_read_do_not_hold_up_the_stop() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    const SENDS: u32 = 200;
    let gateway = Running::start_with(|config| {
        config.shutdown.timeout = TIMEOUT;
        config.sessions.write_timeout = Duration::from_secs(60);
    })
    .await;
    let users = ["ann", "ben", "cid"];
    let mut sockets = Vec::new();
    for user in users {
        let mut socket = RawSocket::connect_narrow(gateway.addresses.http).await;
        socket.upgrade(user).await;
        sockets.push(socket);
    }
    let text = "x".repeat(30_000);
    for _ in 0..SENDS {
        assert_eq!(send(gateway.addresses.http, &users, &text).await.0, 202);
    }
    let written = gateway.metrics.push_latency.of(gateway::metrics::Stage::Written).count();
    assert!(written < u64::from(SENDS) * 3, "the sockets are stuck");

    let metrics = gateway.metrics.clone();
    let started = Instant::now();
    assert_eq!(gateway.stop().await, Ok(()));
    assert!(started.elapsed() < TIMEOUT, "{:?}", started.elapsed());
    assert_eq!(metrics.sessions_closed.with_label_values(&["1012", "server"]).get(), 3);
    assert_eq!(metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_socket_that_answers_nothing_after_the_close_does_not_hold_up_the_stop() {
    let gateway = Running::start_with(|config| config.shutdown.timeout = Duration::from_secs(5)).await;
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    let started = Instant::now();
    let end = gateway.stop();
    assert_eq!(socket.frame_of(CLOSE).await.close_code(), 1012);
    // It neither echoes the close nor hangs up.
    assert_eq!(end.await, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Pings without a pause until the gateway hangs up; returns when it did.
async fn flood(mut socket: RawSocket) {
    let pings = frame(FINAL | PING, b"!").repeat(10_000);
    while socket.stream.write_all(&pings).await.is_ok() {}
}

#[tokio::test]
async fn a_flood_of_pings_does_not_hold_up_the_stop() {
    let gateway = Running::start_with(|config| config.shutdown.timeout = Duration::from_secs(8)).await;
    let mut floods = Vec::new();
    for user in ["ann", "ben"] {
        floods.push(tokio::spawn(flood(RawSocket::open(gateway.addresses.http, user).await)));
    }
    until_flooded(&gateway).await;
    let metrics = gateway.metrics.clone();
    assert_eq!(gateway.stop().await, Ok(()));
    join_all(floods).await;
    assert_eq!(metrics.sessions_closed.with_label_values(&["1012", "server"]).get(), 2);
    assert_eq!(metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_flood_of_pings_does_not_keep_an_administrator_from_disconnecting() {
    let gateway = Running::start_with(|_| {}).await;
    let flooding = tokio::spawn(flood(RawSocket::open(gateway.addresses.http, "ann").await));
    until_flooded(&gateway).await;
    let url = format!("http://{}/v1/users/ann/sessions", gateway.addresses.http);
    assert_eq!(reqwest::Client::new().delete(url).send().await.unwrap().status(), 200);
    flooding.await.unwrap();
    let closed = r#"gateway_sessions_closed_total{code="4010",initiator="server"}"#;
    until_metric(gateway.addresses.ops, closed, 1.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

async fn until_flooded(gateway: &Running) {
    let received = || gateway.metrics.ws_bytes.of(gateway::metrics::Direction::In).get();
    until_some("a flood", async || (received() > 1 << 18).then_some(())).await;
}

#[tokio::test]
async fn a_send_while_stopping_is_refused_and_says_when_to_try_again() {
    let (mut sockets, end) = stopping_with(&[HALF_A_SEND]).await;
    sockets[0].write(OTHER_HALF.as_bytes()).await;
    let (head, problem) = sockets[0].answer().await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/problem+json"), "{head}");
    assert_eq!(problem["detail"], "the gateway is stopping");
    sockets.clear();
    assert_eq!(end.await, Ok(()));
}

#[tokio::test]
async fn ports_are_free_again_after_the_stop() {
    let gateway = Running::start_with(|_| {}).await;
    let addresses = gateway.addresses;
    let mut socket = RawSocket::open(addresses.http, "bob").await;
    let end = gateway.stop();
    socket.frame_of(CLOSE).await;
    drop(socket);
    assert_eq!(end.await, Ok(()));
    let again = until_some("both ports", async || {
        let mut config = gateway::config::Config::for_tests();
        config.http.listen = addresses.http;
        config.ops.listen = addresses.ops;
        gateway::app::App::bind(config).await.ok()
    })
    .await;
    assert_eq!(again.addresses(), addresses);
}

/// Reopens the log of a gateway that has stopped and says what still waits for bob.
async fn pending_after_a_restart(directory: &std::path::Path) -> u64 {
    let gateway = Running::start_with(|config| config.log.store = LogStore::Disk(directory.into())).await;
    let url = format!("{}/v1/users/bob", gateway.url());
    let user: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(gateway.stop().await, Ok(()));
    user["pending"].as_u64().unwrap()
}

#[tokio::test]
async fn the_last_ack_of_a_client_that_acks_itself_gets_into_the_log() {
    let folder = Folder::new();
    let gateway = Running::start_with(|config| config.log.store = LogStore::Disk(folder.path().into())).await;
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    assert_eq!(send(gateway.addresses.http, &["bob"], "last words").await.0, 202);
    let notification = socket.frame().await.json();
    assert_eq!(notification["body"], "last words");
    let (metrics, end) = (gateway.metrics.clone(), gateway.stop());
    until_some("the stop", async || (metrics.draining.get() == 1).then_some(())).await;
    let ack = json!({"type": "ack", "position": notification["position"]}).to_string();
    socket.write(&frame(FINAL | TEXT, ack.as_bytes())).await;
    assert_eq!(socket.frame().await.json()["type"], "drain");
    assert_eq!(socket.frame().await.close_code(), 1012);
    drop(socket);
    assert_eq!(end.await, Ok(()));
    assert_eq!(pending_after_a_restart(folder.path()).await, 0);
}

#[tokio::test]
async fn a_client_that_only_answers_pings_is_asked_behind_the_last_frame() {
    let folder = Folder::new();
    let gateway = Running::start_with(|config| config.log.store = LogStore::Disk(folder.path().into())).await;
    let http = gateway.addresses.http;
    let mut socket = RawSocket::connect(http).await;
    socket.write(handshake("bob", "").replace("?ack=client", "").as_bytes()).await;
    socket.head().await;
    assert_eq!(socket.frame().await.json()["type"], "welcome");
    assert_eq!(send(http, &["bob"], "first").await.0, 202);
    assert_eq!(socket.frame().await.json()["body"], "first");
    assert_eq!(socket.frame().await.opcode, PING);
    // That question is out: no other before it is answered, but for one who has to leave.
    assert_eq!(send(http, &["bob"], "second").await.0, 202);
    assert_eq!(socket.frame().await.json()["body"], "second");
    let end = gateway.stop();
    let question = socket.frame().await;
    assert_eq!(question.opcode, PING, "before the drain: {question:?}");
    socket.write(&frame(FINAL | PONG, &question.payload)).await;
    assert_eq!(socket.frame().await.json()["type"], "drain");
    assert_eq!(socket.frame().await.close_code(), 1012);
    drop(socket);
    assert_eq!(end.await, Ok(()));
    assert_eq!(pending_after_a_restart(folder.path()).await, 0);
}

#[tokio::test]
async fn whoever_owes_no_ack_leaves_at_once_and_whoever_never_acks_is_not_waited_for_long() {
    let gateway = Running::start_with(|_| {}).await;
    let http = gateway.addresses.http;
    let mut idle = RawSocket::open(http, "ann").await;
    let mut silent = RawSocket::open(http, "bob").await;
    assert_eq!(send(http, &["bob"], "never acked").await.0, 202);
    assert_eq!(silent.frame().await.json()["body"], "never acked");
    let started = Instant::now();
    let end = gateway.stop();
    let left = async |socket: &mut RawSocket| {
        assert_eq!(socket.frame().await.json()["type"], "drain");
        assert_eq!(socket.frame().await.close_code(), 1012);
        started.elapsed()
    };
    let (idle_left, silent_left) = tokio::join!(left(&mut idle), left(&mut silent));
    assert!(idle_left + Duration::from_millis(500) < silent_left, "{idle_left:?} {silent_left:?}");
    assert!(silent_left >= Duration::from_millis(990), "{silent_left:?}");
    drop((idle, silent));
    assert_eq!(end.await, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_operator_can_watch_who_is_still_there() {
    let gateway = Running::start_with(|_| {}).await;
    let (http, ops) = (gateway.addresses.http, gateway.addresses.ops);
    let mut sockets = Vec::new();
    for user in ["ann", "ben", "cid"] {
        sockets.push(RawSocket::open(http, user).await);
    }
    let calm = scrape(ops).await;
    let series = ["gateway_ready", "gateway_drain_remaining_sessions"];
    assert_eq!(series.map(|series| calm.value(series)), [1.0, 0.0]);
    let end = gateway.stop();
    // They are told, and stay until they hang up or have had two seconds.
    for socket in &mut sockets {
        socket.frame_of(CLOSE).await;
    }
    let draining = scrape(ops).await;
    assert_eq!(series.map(|series| draining.value(series)), [0.0, 3.0]);
    sockets.truncate(1);
    until_metric(ops, "gateway_drain_remaining_sessions", 1.0).await;
    drop(sockets);
    assert_eq!(end.await, Ok(()));
}

#[tokio::test]
async fn the_deadline_cuts_whoever_is_left_and_says_so() {
    let gateway = Running::start_with(|config| config.shutdown.timeout = Duration::from_millis(300)).await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    socket.write(HALF_A_SEND.as_bytes()).await;
    until_metric(gateway.addresses.ops, "http_server_active_requests", 1.0).await;
    let metrics = gateway.metrics.clone();
    assert_eq!(gateway.stop().await, Err(gateway::app::RunError::Unfinished));
    assert_eq!(metrics.connections.get(), 0, "it is cut");
}
