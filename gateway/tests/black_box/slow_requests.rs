//! Clients that begin a request and do not end it: descriptors are not theirs to keep.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::process_harness::{PATIENCE, Running, until_metric};
use crate::raw_socket::RawSocket;

const TIMEOUTS: &str = "gateway_first_request_timeouts_total";

async fn impatient() -> Running {
    Running::start_with(|config| {
        config.http.first_request_timeout = Duration::from_millis(200);
        config.http.body_timeout = Duration::from_millis(200);
    })
    .await
}

#[tokio::test]
async fn half_sent_headers_are_cut_and_counted() {
    let gateway = impatient().await;
    let beginnings =
        ["", "G", "GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n", "PRI * HTTP/2.0\r\n", "\r\n"];
    for beginning in beginnings {
        let mut socket = RawSocket::connect(gateway.addresses.http).await;
        socket.write(beginning.as_bytes()).await;
        socket.end().await;
    }
    until_metric(gateway.addresses.ops, TIMEOUTS, beginnings.len() as f64).await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn blank_lines_before_a_request_do_not_count_as_its_headers() {
    let gateway = impatient().await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    // RFC 9112 §2.2: a server ignores at least one empty line before the request line.
    socket.write(b"\r\n\r\nGET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n").await;
    let end = tokio::time::timeout(Duration::from_secs(5), socket.end()).await;
    assert!(end.is_ok(), "the connection is still open, long after http.first_request_timeout");
    until_metric(gateway.addresses.ops, TIMEOUTS, 1.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn headers_that_drip_in_have_no_more_time_than_those_that_stop() {
    let gateway = impatient().await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    let started = tokio::time::Instant::now();
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    socket.write(b"GET /v1/users/bob HTTP/1.1\r\nX: ").await;
    // A drop falls until the gateway hangs up: then the connection refuses it.
    while socket.stream.write_all(b"x").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the gateway waits for ever");
        interval.tick().await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    until_metric(gateway.addresses.ops, TIMEOUTS, 1.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_connection_that_asked_once_may_rest() {
    let gateway = impatient().await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    let request = b"GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    socket.write(request).await;
    assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
    assert!(socket.is_silent_for(Duration::from_millis(400)).await, "it is not cut");
    socket.write(request).await;
    assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_socket_outlives_the_time_for_the_first_request() {
    let gateway = impatient().await;
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    assert!(socket.is_silent_for(Duration::from_millis(400)).await, "it is not cut");
    let (status, _) = crate::process_harness::send(gateway.addresses.http, &["bob"], "hello").await;
    assert_eq!(status, 202);
    assert_eq!(socket.frame_of_type("notification").await["body"], "hello");
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_half_sent_body_is_answered_with_408() {
    let gateway = impatient().await;
    for framing in ["Content-Length: 40", "Transfer-Encoding: chunked"] {
        let mut socket = RawSocket::connect(gateway.addresses.http).await;
        let body = if framing.starts_with('C') { "{\"to\":" } else { "6\r\n{\"to\":\r\n" };
        let request = format!(
            "POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             {framing}\r\n\r\n{body}"
        );
        socket.write(request.as_bytes()).await;
        let (head, problem) = socket.answer().await;
        assert!(head.starts_with("HTTP/1.1 408 "), "{framing}: {head}");
        assert_eq!(problem["status"], 408);
        assert_eq!(problem["detail"], "the body took too long to arrive");
    }
    let invalid = r#"gateway_notifications_total{result="invalid",target="unknown"}"#;
    until_metric(gateway.addresses.ops, invalid, 2.0).await;
    until_metric(gateway.addresses.ops, "http_server_active_requests", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}
