//! Servers that can be put under load: one adapter for each kind.
//!
//! An adapter says in words of HTTP and text frames how its kind of server is spoken to, and knows neither sockets nor
//! time nor what is counted. The text that a notification carries is opaque to the server (see [`crate::payload`]): any
//! server that hands a text from a sender to a receiver can have an adapter. README.md says how to write one.

mod fastapi;
mod gateway;

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, StatusCode};

pub use fastapi::FastApi;
pub use gateway::Gateway;

/// The kinds of target there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The notification gateway.
    Gateway,
    /// A chat server with `POST /send-message` and `/ws/{user_id}`, as many start with.
    Fastapi,
}

impl Kind {
    /// Its adapter.
    #[must_use]
    pub fn adapter(self) -> Arc<dyn Adapter> {
        match self {
            Self::Gateway => Arc::new(Gateway),
            Self::Fastapi => Arc::new(FastApi),
        }
    }
}

/// What a kind of server can do beside pushing to who is connected. A scenario that needs more is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// A socket can be resumed behind a position.
    pub resume: bool,
    /// One send reaches every subscriber of a topic.
    pub topics: bool,
    /// One send may name several users.
    pub several_recipients: bool,
    /// A send with the same key is done once.
    pub idempotency: bool,
    /// A slow reader is told by a gap what it missed.
    pub gaps: bool,
    /// A stopping server says goodbye and when to come back.
    pub drain: bool,
}

/// An HTTP request relative to the target's address. Credentials are added by whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: String,
    /// Headers: names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body; JSON if it is not empty.
    pub body: Bytes,
}

/// Who a notification is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// One user.
    User(String),
    /// Each of these users.
    Users(Arc<[String]>),
    /// Every subscriber of a topic.
    Topic(String),
}

/// What the answer to a send says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It will be delivered.
    Accepted,
    /// It will not be delivered, and a repetition would be refused too; with the reason.
    Refused(String),
    /// It was not accepted now and may be when it is repeated; with the reason.
    NotNow(String),
    /// Nobody can say whether it will be delivered; with the reason.
    Unknown(String),
}

/// A text frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The socket is ready; what will be sent starts behind `position`.
    Welcome {
        /// Where the socket starts.
        position: &'a str,
    },
    /// A notification.
    Notification {
        /// The text that the sender gave.
        payload: std::borrow::Cow<'a, str>,
        /// Its position; absent where there are none.
        position: Option<&'a str>,
        /// The trace that it continues, if it says so.
        trace: Option<Traced<'a>>,
    },
    /// Things this socket will not receive.
    Gap {
        /// How many, when known.
        count: Option<u64>,
        /// Why.
        reason: &'a str,
        /// The position behind them.
        until: &'a str,
    },
    /// Come back after so many milliseconds; the socket is about to be closed.
    Drain {
        /// Milliseconds from now.
        reconnect_in_ms: u64,
    },
    /// Anything else: a sign of life.
    Other,
}

/// A notification of a trace, in the frame's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced<'a> {
    /// The notification's id; empty where there is none that could be read.
    pub message: &'a str,
    /// What the frame says in place of a `traceparent`: whoever follows it has to check it.
    pub parent: &'a str,
}

/// How one kind of server is spoken to.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    /// Its name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The path and query of a user's socket, resumed behind `after` if that is known.
    fn socket_path(&self, user: &str, after: Option<&str>) -> String;

    /// The subprotocol to offer, if there is one.
    fn subprotocol(&self) -> Option<&'static str>;

    /// Whether the first frame of a socket is [`Incoming::Welcome`]; otherwise it is ready when it is open.
    fn welcomes(&self) -> bool;

    /// The request that sends a text; the key makes a repetition harmless where [`Abilities::idempotency`] says so.
    fn send(&self, to: &Destination, text: &str, key: Option<&str>) -> Request;

    /// What the answer to [`Adapter::send`] says.
    fn answer(&self, status: StatusCode, body: &[u8]) -> Answer;

    /// What a text frame says. Never fails: what is not understood is [`Incoming::Other`].
    fn decode<'a>(&self, frame: &'a str) -> Incoming<'a>;

    /// The text frame that says that everything up to a position was received, with the `traceparent` of the span that took
    /// the last of it, if there is one; absent where there is no such frame.
    fn ack(&self, position: &str, traceparent: Option<&str>) -> Option<String>;

    /// Whether position `a` is at or behind position `b`, both given by this server.
    fn reached(&self, a: &str, b: &str) -> bool;

    /// Requests that must succeed before users of a topic are sent to.
    fn subscribe(&self, topic: &str, users: &[String]) -> Vec<Request>;

    /// Requests that leave nothing behind when a run is over.
    fn clean_up(&self, topic: Option<&str>, users: &[String]) -> Vec<Request>;
}
