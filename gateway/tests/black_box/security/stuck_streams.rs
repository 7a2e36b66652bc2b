//! A stream ends with what it stands on, whether or not its client takes anything: nobody stays by not reading.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gateway::clock::Clock;
use h2::{Ping, RecvStream};
use poem::http::Request;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::credentials::{Issuer, SOME_TIME};
use super::secured::Secured;
use crate::harness::{Answer, Gateway, SOME_TIME_US, within};
use crate::raw_socket::RawSocket;

const SESSIONS: &str = r#"gateway_sessions{transport="sse"}"#;

/// How often a client without a window says that it is alive.
const PING_EVERY: Duration = Duration::from_millis(50);

/// Grace, a heartbeat, and a busy machine. The gateway's own deadlines of connections are far beyond.
const SOON: Duration = Duration::from_secs(8);

fn closed(code: &str) -> String {
    format!(r#"gateway_sessions_closed_total{{code="{code}",initiator="server"}}"#)
}

/// Streams over one HTTP/2 connection that pings and takes the heads of answers and not a byte of their bodies.
struct Windowless {
    bodies: Vec<RecvStream>,
    connection: JoinHandle<()>,
    pings: JoinHandle<()>,
}

impl Windowless {
    async fn open(address: SocketAddr, path: &str, credential: &str, streams: usize) -> Self {
        Self::open_with_window(0, address, path, credential, streams).await
    }

    async fn open_with_window(
        window: u32,
        address: SocketAddr,
        path: &str,
        credential: &str,
        streams: usize,
    ) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = h2::client::Builder::new();
        let handshake = client.initial_window_size(window).handshake::<_, Bytes>(stream);
        let (sender, mut connection) = within("the handshake", handshake).await.unwrap();
        let mut pinger = connection.ping_pong().unwrap();
        let connection = tokio::spawn(async move {
            // How it ends is the gateway's choice.
            let _ = connection.await;
        });
        let pings = tokio::spawn(async move {
            let mut interval = tokio::time::interval(PING_EVERY);
            while pinger.ping(Ping::opaque()).await.is_ok() {
                interval.tick().await;
            }
        });
        let mut bodies = Vec::new();
        for _ in 0..streams {
            let mut sender = within("a free stream", sender.clone().ready()).await.unwrap();
            let request = Request::get(format!("http://{address}{path}"))
                .header("authorization", format!("Bearer {credential}"))
                .body(())
                .unwrap();
            let (answer, _) = sender.send_request(request, true).unwrap();
            let answer = within("the head of an answer", answer).await.unwrap();
            assert_eq!(answer.status(), 200);
            bodies.push(answer.into_body());
        }
        Self { bodies, connection, pings }
    }

    /// Waits until the gateway has closed the connection.
    async fn end(self) {
        within("the end of the connection", self.connection).await.unwrap();
        within("the end of the pings", self.pings).await.unwrap();
        drop(self.bodies);
    }
}

/// Secured, with a clock in the test's hand and frequent heartbeats.
async fn start() -> (Secured, gateway::clock::ClockHand) {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::hs256(), |config, _| {
        config.auth.leeway = Duration::ZERO;
        config.sessions.heartbeat = Duration::from_secs(1);
        config.mailbox.max_bytes.0 = 64 << 20;
    })
    .await;
    (secured, hand)
}

fn token(secured: &Secured) -> String {
    secured.issuer.token(&json!({"sub": "bob", "exp": SOME_TIME + 60}))
}

/// A stream over HTTP/1.1 for which there is more than all buffers hold, of which nothing but the head is read.
async fn unread(secured: &Secured) -> RawSocket {
    let mut socket = RawSocket::connect_narrow(secured.address()).await;
    let token = token(secured);
    let request = format!(
        "GET /sse/bob HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write(request.as_bytes()).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 200 "));
    let text = "x".repeat(30_000);
    for _ in 0..60 {
        secured.tell("bob", &text).await;
    }
    socket
}

/// Waits until no stream is left and this many were closed with this code, soon.
async fn until_closed(gateway: &Gateway, code: &str, count: f64) {
    let started = Instant::now();
    gateway.until_metric(SESSIONS, 0.0).await;
    gateway.until_metric(&closed(code), count).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_window_ends_with_its_token() {
    let (secured, hand) = start().await;
    let client = Windowless::open(secured.address(), "/sse/bob", &token(&secured), 3).await;
    secured.until_metric(SESSIONS, 3.0).await;
    hand.set((SOME_TIME + 61) * 1_000_000);
    until_closed(&secured, "4205", 3.0).await;
    client.end().await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_window_ends_with_its_key() {
    let (secured, _hand) = start().await;
    let client = Windowless::open(secured.address(), "/sse/bob", &secured.reading.text(), 1).await;
    secured.write_keys(&[&secured.sending, &secured.administrating]);
    until_closed(&secured, "4001", 1.0).await;
    client.end().await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_ends_a_stream_without_a_window() {
    let (secured, _hand) = start().await;
    let client = Windowless::open(secured.address(), "/sse/bob", &token(&secured), 2).await;
    let administrator = secured.administrating.text();
    let answer = secured.request_of(&administrator, Method::DELETE, "/v1/users/bob/sessions");
    assert_eq!(Answer::of(answer).await.body["sessions"], 2);
    until_closed(&secured, "4010", 2.0).await;
    client.end().await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_read_slowly_gets_nothing_that_was_sent_after_its_end() {
    let (secured, hand) = start().await;
    let mut socket = unread(&secured).await;
    hand.set((SOME_TIME + 61) * 1_000_000);
    secured.tell("bob", "too late").await;
    let all = within("the end of the stream", socket.rest()).await;
    assert!(!String::from_utf8_lossy(&all).contains("too late"));
    until_closed(&secured, "4205", 1.0).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_ends_with_its_token() {
    let (secured, hand) = start().await;
    let socket = unread(&secured).await;
    hand.set((SOME_TIME + 61) * 1_000_000);
    until_closed(&secured, "4205", 1.0).await;
    drop(socket);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_stream_without_a_window() {
    let gateway = Gateway::start_with(|config| config.shutdown.timeout = Duration::from_secs(60)).await;
    let client = Windowless::open(gateway.address(), "/sse/bob", "unneeded", 2).await;
    gateway.until_metric(SESSIONS, 2.0).await;
    let started = Instant::now();
    assert_eq!(gateway.shut_down().await, Ok(()));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    client.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_window_is_not_waited_for_longer_than_a_write() {
    let gateway = Gateway::start_with(|config| {
        config.http.write_timeout = Duration::from_millis(500);
        config.sessions.heartbeat = Duration::from_secs(1);
    })
    .await;
    let client = Windowless::open(gateway.address(), "/sse/bob", "unneeded", 1).await;
    until_closed(&gateway, "4108", 1.0).await;
    assert_eq!(gateway.metric(r#"gateway_limited_total{limit="write_timeout"}"#).await, 1.0);
    client.end().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_over_http2_that_is_read_lasts() {
    let gateway = Gateway::start_with(|config| {
        config.http.write_timeout = Duration::from_millis(500);
        config.sessions.heartbeat = Duration::from_secs(1);
    })
    .await;
    // Used up and given back again and again.
    let client = Windowless::open_with_window(32, gateway.address(), "/sse/bob", "unneeded", 1).await;
    let Windowless { mut bodies, connection, pings } = client;
    let body = &mut bodies[0];
    let mut text = String::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let bytes = within("a heartbeat", body.data()).await.expect("it goes on").unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(text.matches("heartbeat").count() >= 3, "{text}");
    assert_eq!(gateway.metric(&closed("4108")).await, 0.0);
    drop(bodies);
    pings.abort();
    connection.abort();
    gateway.stop().await;
}
