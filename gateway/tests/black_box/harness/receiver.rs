//! A client that follows the protocol: keeps a position, moves it only as frames allow, notices holes.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::within;

/// An open socket of one user.
#[derive(Debug)]
pub(crate) struct Receiver {
    user: String,
    socket: WebSocketStream<TcpStream>,
    welcome: Value,
    position: Option<Place>,
    duplicates: usize,
    pings: usize,
}

/// A position taken apart: within an epoch, places compare by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) number: u64,
}

impl Place {
    /// The place that a frame's or an answer's field names.
    #[track_caller]
    pub(crate) fn of(field: &Value) -> Self {
        let text = field.as_str().unwrap_or_else(|| panic!("a position is a text, this is {field}"));
        let (epoch, number) = text.split_once('-').expect("a position is <epoch>-<number>");
        Self { epoch: epoch.to_owned(), number: number.parse().expect("the number of a position") }
    }
}

impl Receiver {
    pub(super) fn new(user: String, socket: WebSocketStream<TcpStream>) -> Self {
        Self { user, socket, welcome: Value::Null, position: None, duplicates: 0, pings: 0 }
    }

    pub(super) async fn read_welcome(&mut self) {
        let welcome = self.next_frame().await;
        assert_eq!(welcome["type"], "welcome", "the first frame is the welcome: {welcome}");
        self.welcome = welcome;
    }

    /// The frame that opened the session.
    pub(crate) fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// The position to resume from.
    pub(crate) fn position(&self) -> String {
        let place = self.position.as_ref().expect("the welcome names a position");
        format!("{}-{}", place.epoch, place.number)
    }

    /// Notifications that came although they had come before.
    pub(crate) fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// Pings that came so far; each was answered.
    pub(crate) fn pings(&self) -> usize {
        self.pings
    }

    /// The next message of any kind, `None` when the connection is at its end.
    pub(crate) async fn next_message(&mut self) -> Option<Message> {
        let what = format!("a message for {}", self.user);
        match within(&what, self.socket.next()).await {
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => None,
            Some(Ok(message)) => Some(message),
            Some(Err(error)) => panic!("the socket of {} broke: {error}", self.user),
        }
    }

    /// The next frame of the protocol; moves the position.
    pub(crate) async fn next_frame(&mut self) -> Value {
        loop {
            match self.next_message().await {
                Some(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(text.as_str()).expect("a frame is JSON");
                    assert!(
                        text.as_str().starts_with(r#"{"type":""#),
                        "the type stands first: {}",
                        text.as_str()
                    );
                    if self.follow(&frame) {
                        return frame;
                    }
                    self.duplicates += 1;
                }
                Some(Message::Ping(_)) => self.pings += 1,
                Some(other) => panic!("{} expected a frame and got {other:?}", self.user),
                None => panic!("{} expected a frame, but the socket ended", self.user),
            }
        }
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn next_event(&mut self) -> Value {
        loop {
            let frame = self.next_frame().await;
            if frame["type"] != "heartbeat" {
                return frame;
            }
        }
    }

    /// The next frame, which has to be a notification.
    pub(crate) async fn notification(&mut self) -> Value {
        let frame = self.next_event().await;
        assert_eq!(frame["type"], "notification", "{} expected a notification: {frame}", self.user);
        frame
    }

    /// The next notifications' texts.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            let notification = self.notification().await;
            texts.push(notification["body"].as_str().expect("the test sends texts").to_owned());
        }
        texts
    }

    /// The next frame, which has to be a gap.
    pub(crate) async fn gap(&mut self) -> Value {
        let frame = self.next_event().await;
        assert_eq!(frame["type"], "gap", "{} expected a gap: {frame}", self.user);
        frame
    }

    /// Reads to the end and returns the code that the gateway closed with.
    pub(crate) async fn expect_closed(&mut self) -> u16 {
        loop {
            match self.next_message().await {
                Some(Message::Close(Some(frame))) => {
                    let code = frame.code.into();
                    // The answer to the close is sent while reading on; the gateway ends the connection.
                    while self.next_message().await.is_some() {}
                    return code;
                }
                Some(Message::Close(None)) => panic!("the socket of {} was closed without a code", self.user),
                Some(_) => {}
                None => panic!("the socket of {} ended without a close frame", self.user),
            }
        }
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, message: Message) {
        within("the socket to take a message", self.socket.send(message)).await.expect("the socket is open");
    }

    /// Sends a message, unless the gateway has closed the socket already.
    pub(crate) async fn say_if_open(&mut self, message: Message) {
        // A socket that closed says so to whoever reads it next.
        let _ = within("the socket to take a message", self.socket.send(message)).await;
    }

    /// Says goodbye and waits until the gateway answered.
    pub(crate) async fn close(mut self) {
        self.say(Message::Close(None)).await;
        while self.next_message().await.is_some() {}
    }

    /// The socket itself, for a client that does not follow the protocol.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }

    /// Moves the position as the protocol says; `false` for a duplicate, which is to be dropped.
    fn follow(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().expect("every frame has a type") {
            "welcome" => self.position = Some(Place::of(&frame["position"])),
            "gap" => self.position = Some(Place::of(&frame["until"])),
            // To everybody who is connected: it has no place.
            "notification" if frame["position"].is_null() => {}
            "notification" => {
                let (place, prev) = (Place::of(&frame["position"]), Place::of(&frame["prev"]));
                let known = self.position.as_ref().expect("the welcome came first");
                assert_eq!(place.epoch, known.epoch, "another epoch without a gap: {frame}");
                assert!(prev.number <= known.number, "undetected hole between {known:?} and {frame}");
                if place.number <= known.number {
                    return false;
                }
                self.position = Some(place);
            }
            _ => {}
        }
        true
    }
}
