//! The notification gateway: `POST /v1/notifications` and sockets that speak `notify.v1`.
//!
//! A text travels as the notification's `body`. It lives for a minute: whoever is connected receives it at once, whoever
//! comes back receives it within the run, and what a run leaves in mailboxes is gone soon after it. Users are therefore
//! never removed; only the topic of a run is emptied. Positions are compared here as a client compares them: by number,
//! within one epoch.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Abilities, Adapter, Answer, Destination, Incoming, Request, Traced};

/// The protocol on the socket.
const SUBPROTOCOL: &str = "notify.v1";

/// How long a notification may wait for its receiver, seconds.
const TTL_SECONDS: u32 = 60;

/// Users in one change of a topic; the gateway takes up to 10,000.
const MAX_USERS_PER_CHANGE: usize = 1_000;

/// What need not be encoded in a path (RFC 3986, unreserved).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Speaks to a notification gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway;

/// The body of a send.
#[derive(Serialize)]
struct Notification<'a> {
    #[serde(flatten)]
    to: To<'a>,
    body: &'a str,
    ttl_seconds: u32,
}

/// One of the two ways to name recipients.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum To<'a> {
    To(&'a [String]),
    Topic(&'a str),
}

/// Every field of any frame that is of interest here, borrowed from the text.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    position: Option<&'a str>,
    // The only text that may be escaped. `Option<Cow>` would always copy.
    #[serde(borrow, default)]
    body: Cow<'a, str>,
    until: Option<&'a str>,
    reason: Option<&'a str>,
    count: Option<u64>,
    reconnect_in_ms: Option<u64>,
    // Whatever is wrong with these two is wrong with the trace, not with the notification.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
}

/// What a refusal says (RFC 9457).
#[derive(Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default)]
    title: Cow<'a, str>,
    #[serde(borrow, default)]
    detail: Cow<'a, str>,
    #[serde(borrow, default)]
    delivered: Cow<'a, str>,
}

impl Adapter for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            topics: true,
            several_recipients: true,
            idempotency: true,
            gaps: true,
            drain: true,
        }
    }

    fn socket_path(&self, user: &str, after: Option<&str>) -> String {
        let path = format!("/ws/{}?ack=client", encoded(user));
        match after {
            Some(position) => format!("{path}&after={}", encoded(position)),
            None => path,
        }
    }

    fn subprotocol(&self) -> Option<&'static str> {
        Some(SUBPROTOCOL)
    }

    fn welcomes(&self) -> bool {
        true
    }

    fn send(&self, to: &Destination, text: &str, key: Option<&str>) -> Request {
        let to = match to {
            Destination::User(user) => To::To(std::slice::from_ref(user)),
            Destination::Users(users) => To::To(users),
            Destination::Topic(topic) => To::Topic(topic),
        };
        Request {
            method: Method::POST,
            path: "/v1/notifications".to_owned(),
            headers: key.map(|key| ("idempotency-key", key.to_owned())).into_iter().collect(),
            body: json(&Notification { to, body: text, ttl_seconds: TTL_SECONDS }),
        }
    }

    /// An acceptance that some recipients are refused by is [`Answer::Unknown`]: which of them, the accounting does not know.
    ///
    /// Two client errors are [`Answer::NotNow`], because the same request may be accepted later: 408 (the body came too
    /// slowly, nothing happened) and 409 (the first request with this key is not answered yet).
    fn answer(&self, status: StatusCode, body: &[u8]) -> Answer {
        if status == StatusCode::ACCEPTED || status == StatusCode::OK {
            // The field is there only if anybody was; nothing else in an answer is text of the sender's.
            let partly = std::str::from_utf8(body).is_ok_and(|text| text.contains(r#""rejected":["#));
            return if partly {
                Answer::Unknown("some recipients were refused".to_owned())
            } else {
                Answer::Accepted
            };
        }
        // A proxy in between may answer with something else than a problem; then the status says it all.
        let problem: Option<Problem<'_>> = serde_json::from_slice(body).ok();
        let reason = reason(status, problem.as_ref());
        match status {
            StatusCode::SERVICE_UNAVAILABLE if problem.is_some_and(|said| said.delivered == "unknown") => {
                Answer::Unknown(reason)
            }
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT => Answer::NotNow(reason),
            StatusCode::INSUFFICIENT_STORAGE => Answer::Refused(reason),
            status if status.is_client_error() => Answer::Refused(reason),
            _ => Answer::Unknown(reason),
        }
    }

    fn decode<'a>(&self, frame: &'a str) -> Incoming<'a> {
        serde_json::from_str::<Frame<'a>>(frame).ok().and_then(Frame::meaning).unwrap_or(Incoming::Other)
    }

    fn ack(&self, position: &str, traceparent: Option<&str>) -> Option<String> {
        Some(match traceparent {
            None => format!(r#"{{"type":"ack","position":"{position}"}}"#),
            Some(parent) => {
                format!(r#"{{"type":"ack","position":"{position}","traceparent":"{parent}"}}"#)
            }
        })
    }

    fn reached(&self, a: &str, b: &str) -> bool {
        match (parsed(a), parsed(b)) {
            (Some((epoch_a, number_a)), Some((epoch_b, number_b))) => {
                epoch_a == epoch_b && number_a >= number_b
            }
            _ => false,
        }
    }

    fn subscribe(&self, topic: &str, users: &[String]) -> Vec<Request> {
        change_subscribers(&Method::PUT, topic, users)
    }

    fn clean_up(&self, topic: Option<&str>, users: &[String]) -> Vec<Request> {
        topic.map(|topic| change_subscribers(&Method::DELETE, topic, users)).unwrap_or_default()
    }
}

impl<'a> Frame<'a> {
    /// `None`: a frame of a type that is not known here, or without the fields of its type.
    fn meaning(self) -> Option<Incoming<'a>> {
        match &*self.kind {
            "notification" => {
                let parent = self.traceparent.and_then(plain_text);
                let message = self.id.and_then(plain_text).unwrap_or_default();
                let trace = parent.map(|parent| Traced { message, parent });
                Some(Incoming::Notification { payload: self.body, position: self.position, trace })
            }
            "welcome" => Some(Incoming::Welcome { position: self.position? }),
            "gap" => Some(Incoming::Gap { count: self.count, reason: self.reason?, until: self.until? }),
            "drain" => Some(Incoming::Drain { reconnect_in_ms: self.reconnect_in_ms? }),
            _ => None,
        }
    }
}

fn change_subscribers(method: &Method, topic: &str, users: &[String]) -> Vec<Request> {
    let path = format!("/v1/topics/{}/subscribers", encoded(topic));
    let request = |users: &[String]| Request {
        method: method.clone(),
        path: path.clone(),
        headers: Vec::new(),
        body: json(&users),
    };
    users.chunks(MAX_USERS_PER_CHANGE).map(request).collect()
}

/// `<status> <title>: <detail>`, as far as they are known.
fn reason(status: StatusCode, problem: Option<&Problem<'_>>) -> String {
    let title = problem.map(|problem| &*problem.title).filter(|title| !title.is_empty());
    let title = title.or(status.canonical_reason()).unwrap_or("unknown status");
    let code = status.as_u16();
    match problem.map(|problem| &*problem.detail).filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{code} {title}: {detail}"),
        None => format!("{code} {title}"),
    }
}

/// A text as it stands between its quotes, which is its value unless something in it is escaped; `None`: it is no text.
fn plain_text(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

/// Epoch and number.
fn parsed(position: &str) -> Option<(&str, u64)> {
    let (epoch, number) = position.rsplit_once('-')?;
    Some((epoch, number.parse().ok()?))
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("texts and numbers always serialize").into()
}

#[cfg(test)]
mod tests;
