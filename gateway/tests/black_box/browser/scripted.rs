//! A gateway that says what the test wants: for frames and closes that a real one says rarely, or never.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::within;

/// The epoch of its positions.
pub(crate) const EPOCH: &str = "cnfsdn0y03pkn";

/// Where it listens.
pub(crate) struct Scripted {
    listener: TcpListener,
}

/// One client's socket.
pub(crate) struct Line {
    socket: WebSocketStream<TcpStream>,
    /// The path of its address, percent-encoded.
    pub(crate) path: String,
    query: String,
    /// The subprotocols it offers.
    pub(crate) offered: String,
}

/// The position of this number.
pub(crate) fn at(number: u64) -> String {
    format!("{EPOCH}-{number}")
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next socket that a client opens; it is not welcomed yet.
    pub(crate) async fn accept(&self) -> Line {
        loop {
            let (stream, _) = within("a client", self.listener.accept()).await.expect("the port is ours");
            // Browsers open connections beforehand and leave them without a word.
            if let Some(line) = within("a handshake", Line::of(stream)).await {
                return line;
            }
        }
    }

    /// The next socket, welcomed at this number.
    pub(crate) async fn welcome(&self, number: u64) -> Line {
        let mut line = self.accept().await;
        line.welcome(number).await;
        line
    }

    /// Hangs up on the next client in the middle of its handshake.
    pub(crate) async fn hang_up(&self) {
        let (stream, _) = within("a client", self.listener.accept()).await.expect("the port is ours");
        stream.readable().await.expect("a handshake begins");
    }
}

impl Line {
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    async fn of(stream: TcpStream) -> Option<Self> {
        let (mut path, mut query, mut offered) = (String::new(), String::new(), String::new());
        let read = |request: &Request, mut response: Response| {
            path = request.uri().path().to_owned();
            query = request.uri().query().unwrap_or_default().to_owned();
            if let Some(protocols) = request.headers().get("sec-websocket-protocol") {
                offered = protocols.to_str().expect("protocols are ASCII").to_owned();
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", HeaderValue::from_static("notify.v1"));
            }
            Ok(response)
        };
        let socket = accept_hdr_async(stream, read).await.ok()?;
        Some(Self { socket, path, query, offered })
    }

    /// A parameter of its address, as it stands there.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Welcomes it at this number.
    pub(crate) async fn welcome(&mut self, number: u64) {
        self.say(json!({
            "type": "welcome", "session": "0123456789abcdef", "user": "bob",
            "position": at(number), "head": at(number), "heartbeat_ms": 25_000,
        }))
        .await;
    }

    /// Says a notification with this number, behind that one; its text is the number.
    pub(crate) async fn notify(&mut self, number: u64, prev: u64) {
        self.say(json!({
            "type": "notification", "position": at(number), "prev": at(prev),
            "id": format!("01a205e1-959c-75a4-8ff2-{number:012}"), "sent_at": "2026-11-23T00:49:59.708059Z",
            "body": number.to_string(),
        }))
        .await;
    }

    /// Says a frame.
    pub(crate) async fn say(&mut self, frame: Value) {
        let said = self.socket.send(Message::text(frame.to_string()));
        within("the client to take a frame", said).await.expect("the socket is open");
    }

    /// The next frame of the client; `None` once it has gone.
    pub(crate) async fn hear(&mut self) -> Option<Value> {
        loop {
            match within("a frame of the client", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    return Some(serde_json::from_str(text.as_str()).expect("a frame is JSON"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for an ack of this number; earlier acks are fine.
    pub(crate) async fn hear_ack(&mut self, number: u64) -> Value {
        loop {
            let frame = self.hear().await.expect("the client is there");
            if frame["type"] == "ack" && frame["position"] == at(number) {
                return frame;
            }
        }
    }

    /// Waits until the client has gone; returns the frames that it said before.
    pub(crate) async fn gone(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(frame) = self.hear().await {
            frames.push(frame);
        }
        frames
    }

    /// Closes with this code and waits until the client has answered.
    pub(crate) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        within("the close", self.socket.close(Some(frame))).await.expect("the socket is open");
        self.gone().await;
    }
}
