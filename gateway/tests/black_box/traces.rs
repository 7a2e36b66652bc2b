//! One trace from send to ack, as a collector sees it: the gateway runs in a process of its own and reports to the test.
//!
//! `chain` follows a live notification, `requests` what begins a trace, `sampling` what is traced at all, `links` those that
//! are told by links instead of parents, `failures` what went wrong, `exporting` a collector that is not there.

mod chain;
mod exporting;
mod failures;
mod links;
mod requests;
mod sampling;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Collector, Span};
use crate::process_harness::{Server, within_patience};
use crate::raw_socket::{CLOSE, FINAL, RawSocket, TEXT, frame, handshake};

const POST: &str = "POST /v1/notifications";
const PUBLISH: &str = "publish notifications";
const QUEUE: &str = "queue notifications";
const DELIVER: &str = "deliver notifications";
const ACK: &str = "ack notifications";
const FAN_OUT: &str = "fan-out notifications";

/// What a sender's own span is called by.
const SENDERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDERS_SPAN: &str = "00f067aa0ba902b7";

/// The remote sampled flag decides.
const TRUST: (&str, &str) = ("GATEWAY_TRACE_TRUST_REMOTE_SAMPLING", "true");

/// A sender's `traceparent` with this flag.
fn traceparent(flags: &str) -> String {
    format!("00-{SENDERS_TRACE}-{SENDERS_SPAN}-{flags}")
}

/// A gateway that reports to the collector.
async fn traced(collector: &Collector, more: &[(&str, &str)]) -> Server {
    Server::start(&collector.variables(more)).await
}

/// POSTs to a path, with the sender's `traceparent` if it has one.
async fn post(http: SocketAddr, path: &str, traceparent: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(format!("http://{http}{path}")).json(body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let response = within_patience("the answer to a send", request.send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Sends a text, which has to be accepted; returns the answer.
async fn send(http: SocketAddr, users: &[&str], traceparent: Option<&str>) -> Value {
    let notification = json!({"to": users, "body": "a body of 24 characters."});
    let (status, answer) = post(http, "/v1/notifications", traceparent, &notification).await;
    assert_eq!(status, 202, "{answer}");
    answer
}

/// A socket that acks by frames and knows what its session is called.
struct Listener {
    socket: RawSocket,
    session: String,
}

impl Listener {
    async fn open(http: SocketAddr, user: &str) -> Self {
        Self::upgrade(RawSocket::connect(http).await, user).await
    }

    async fn upgrade(mut socket: RawSocket, user: &str) -> Self {
        socket.write(handshake(user, "Sec-WebSocket-Protocol: notify.v1\r\n").as_bytes()).await;
        let head = socket.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let welcome = socket.frame_of_type("welcome").await;
        Self { socket, session: welcome["session"].as_str().unwrap().to_owned() }
    }

    async fn notification(&mut self) -> Value {
        self.socket.frame_of_type("notification").await
    }

    /// Acks a notification and all before it; `traceparent` is that of the client's own span.
    async fn ack(&mut self, notification: &Value, traceparent: Option<&str>) {
        let mut ack = json!({"type": "ack", "position": notification["position"]});
        if let Some(traceparent) = traceparent {
            ack["traceparent"] = json!(traceparent);
        }
        self.say(&ack).await;
    }

    async fn say(&mut self, message: &Value) {
        self.socket.write(&frame(FINAL | TEXT, message.to_string().as_bytes())).await;
    }

    /// Closes and waits for the answer: what was said before has been heard then.
    async fn say_goodbye(&mut self) {
        self.socket.write(&frame(FINAL | CLOSE, &1000_u16.to_be_bytes())).await;
        self.socket.frame_of(CLOSE).await;
    }
}

/// A `log.disk_reserve` that this directory's disk cannot keep free: no send is accepted. What the gateway itself writes at
/// its start may use a part of it, so it starts all the same.
pub(crate) fn reserve_beyond(directory: &Path) -> String {
    let disk = nix::sys::statvfs::statvfs(directory).unwrap();
    (disk.blocks_available() * disk.fragment_size() * 2).to_string()
}

/// Stops the gateway, which tells the collector the rest, and returns everything that came.
async fn all_spans(server: Server, collector: &Collector) -> Vec<Span> {
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let spans = collector.spans();
    let repeating = spans.iter().find(|span| !span.repeated.is_empty());
    assert!(repeating.is_none(), "a name stands once among a span's attributes: {repeating:#?}");
    spans
}

fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn assert_attributes(span: &Span, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(span.attribute(name), value, "{name} of {span:#?}");
    }
}
