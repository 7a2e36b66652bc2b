//! Clients that begin a request and do not end it, say nothing or read nothing: descriptors are not theirs to keep.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::process_harness::{PATIENCE, Running, until_metric};
use crate::raw_socket::RawSocket;

const TIMEOUTS: &str = "gateway_first_request_timeouts_total";
const REQUEST: &[u8] = b"GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

fn limited(limit: &str) -> String {
    format!("gateway_limited_total{{limit=\"{limit}\"}}")
}

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
    socket.write(REQUEST).await;
    assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
    assert!(socket.is_silent_for(Duration::from_millis(400)).await, "it is not cut");
    socket.write(REQUEST).await;
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

#[tokio::test]
async fn a_later_request_has_a_deadline_of_its_own() {
    let gateway = Running::start_with(|config| config.http.header_timeout = Duration::from_millis(200)).await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    for end in ["", "\r\n"] {
        // A blank line after an answer is no beginning.
        socket.write(&[REQUEST, end.as_bytes()].concat()).await;
        assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
        assert!(socket.is_silent_for(Duration::from_millis(400)).await, "it is not cut between requests");
    }
    socket.write(&REQUEST[..20]).await;
    socket.end().await;
    until_metric(gateway.addresses.ops, &limited("header_timeout"), 1.0).await;
    until_metric(gateway.addresses.ops, TIMEOUTS, 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_connection_without_a_byte_in_either_direction_is_closed() {
    let gateway = Running::start_with(|config| config.http.keep_alive = Duration::from_secs(1)).await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    for _ in 0..4 {
        socket.write(REQUEST).await;
        assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
        assert!(socket.is_silent_for(Duration::from_millis(300)).await, "each byte begins the time again");
    }
    socket.end().await;
    until_metric(gateway.addresses.ops, &limited("keep_alive"), 1.0).await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_request_in_progress_is_not_cut_however_long_its_body_and_its_answer_take() {
    let gateway = Running::start_with(|config| {
        config.http.first_request_timeout = Duration::from_millis(200);
        config.http.header_timeout = Duration::from_millis(200);
    })
    .await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    let body = r#"{"to":["bob"],"body":"hello"}"#;
    for _ in 0..2 {
        let head = format!(
            "POST /v1/notifications?wait=acked&timeout_ms=400 HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write(head.as_bytes()).await;
        assert!(socket.head().await.starts_with("HTTP/1.1 100 "));
        socket.write(&body.as_bytes()[..10]).await;
        assert!(socket.is_silent_for(Duration::from_millis(400)).await);
        socket.write(&body.as_bytes()[10..]).await;
        assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
        assert!(socket.is_silent_for(Duration::from_millis(400)).await, "the body is no head");
    }
    until_metric(gateway.addresses.ops, &limited("header_timeout"), 0.0).await;
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_and_counted() {
    let gateway = Running::start_with(|config| config.http.max_header.0 = 2_048).await;
    let large = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}", "x".repeat(2_048));
    let endless = format!("{large}{}", "x".repeat(300_000));
    let fits = format!("GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(1_900));
    let beginnings: [&[&str]; 4] =
        [&[&large], &[&large[..2_000], "y\r\n", &large], &[&endless], &[&fits, &large]];
    for pieces in beginnings {
        let mut socket = RawSocket::connect(gateway.addresses.http).await;
        for (number, piece) in pieces.iter().enumerate() {
            socket.write(piece.as_bytes()).await;
            if *piece == fits {
                assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "), "{number}");
            }
        }
        let head = socket.head().await;
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        socket.end().await;
    }
    until_metric(gateway.addresses.ops, &limited("header_size"), beginnings.len() as f64).await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_stream_of_events_that_nobody_reads_is_closed() {
    let gateway = Running::start_with(|config| {
        config.http.write_timeout = Duration::from_millis(300);
        config.mailbox.max_bytes.0 = 64 << 20;
    })
    .await;
    let mut socket = RawSocket::connect_narrow(gateway.addresses.http).await;
    socket.write(b"GET /sse/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    assert!(socket.head().await.starts_with("HTTP/1.1 200 "));
    assert!(!socket.is_silent_for(Duration::from_secs(5)).await, "it says hello");
    let text = "x".repeat(30_000);
    let closed = limited("write_timeout");
    crate::process_harness::until_some("the stalled stream's end", async || {
        let (status, _) = crate::process_harness::send(gateway.addresses.http, &["bob"], &text).await;
        assert_eq!(status, 202);
        (crate::process_harness::scrape(gateway.addresses.ops).await.value(&closed) == 1.0).then_some(())
    })
    .await;
    until_metric(gateway.addresses.ops, r#"gateway_sessions{transport="sse"}"#, 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_socket_has_none_of_these_deadlines() {
    let gateway = Running::start_with(|config| {
        config.http.first_request_timeout = Duration::from_millis(500);
        config.http.header_timeout = Duration::from_millis(500);
        config.http.keep_alive = Duration::from_millis(500);
        config.http.max_header.0 = 1_024;
    })
    .await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    socket.write(REQUEST).await;
    assert!(socket.answer().await.0.starts_with("HTTP/1.1 200 "));
    socket.upgrade("bob").await;
    assert!(socket.is_silent_for(Duration::from_millis(1_000)).await, "silence is its right");
    let ping = crate::raw_socket::frame(crate::raw_socket::FINAL | crate::raw_socket::PING, &[b'x'; 100]);
    for _ in 0..20 {
        socket.write(&ping).await;
        assert_eq!(socket.frame_of(crate::raw_socket::PONG).await.payload.len(), 100);
    }
    assert!(socket.is_silent_for(Duration::from_millis(1_000)).await, "a frame is no head");
    let (status, _) = crate::process_harness::send(gateway.addresses.http, &["bob"], "hello").await;
    assert_eq!(status, 202);
    assert_eq!(socket.frame_of_type("notification").await["body"], "hello");
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn http2_may_rest_but_not_for_ever() {
    let gateway = Running::start_with(|config| {
        config.http.first_request_timeout = Duration::from_millis(200);
        config.http.header_timeout = Duration::from_millis(200);
        config.http.keep_alive = Duration::from_millis(600);
    })
    .await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    // An empty frame of settings follows the preface (RFC 9113 §3.4).
    socket.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    socket.end().await;
    until_metric(gateway.addresses.ops, &limited("keep_alive"), 1.0).await;
    until_metric(gateway.addresses.ops, &limited("header_timeout"), 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

/// Answers that repeat what a client once said are read so slowly that writes begin in the middle of them.
#[tokio::test]
async fn an_answer_that_contains_an_upgrade_is_none() {
    let gateway = Running::start_with(|config| {
        config.http.header_timeout = Duration::from_millis(500);
        config.mailbox.max_bytes.0 = 64 << 20;
    })
    .await;
    let http = gateway.addresses.http;
    let (status, _) = crate::process_harness::send(http, &["bob"], &"HTTP/1.1 101".repeat(2_500)).await;
    assert_eq!(status, 202);
    let asked = "GET /v1/users/bob/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for attempt in 0..8 {
        let mut socket = RawSocket::connect_narrow(http).await;
        socket.write(asked.repeat(100).as_bytes()).await;
        // The answers are read in pieces of all sizes, to the last one.
        let mut read = 0;
        let mut piece = vec![0; 4_096];
        loop {
            let size = 1_000 + (read * 7 + attempt * 131) % 3_000;
            let reading = socket.stream.read(&mut piece[..size]);
            match tokio::time::timeout(Duration::from_millis(300), reading).await {
                Ok(Ok(1..)) => read += size,
                _ => break,
            }
        }
        let mut rest = tokio::spawn(async move {
            socket.write(b"GET / HT").await;
            socket.rest().await
        });
        // Half a head has half a second.
        let end = tokio::time::timeout(Duration::from_secs(5), &mut rest).await;
        assert!(end.is_ok(), "attempt {attempt}: the connection has no deadlines any more");
    }
    assert_eq!(gateway.stop().await, Ok(()));
}
