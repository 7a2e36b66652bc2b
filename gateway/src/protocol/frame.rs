//! The frames of `notify.v1`.
//!
//! A notification's frame has two parts. The *head* (`type`, `position`, `prev`) differs from mailbox to mailbox and is
//! written at delivery; the *body* (everything after) is encoded once at acceptance, travels in the log and is shared by all
//! sessions of all recipients.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CloseCode;
use crate::domain::{
    Epoch, GapReason, Notification, NotificationId, Position, Secret, Target, TopicName, TraceContext,
    TraceParent,
};

/// Every value of `type` that the gateway sends.
pub const SERVER_FRAME_TYPES: [&str; 7] =
    ["welcome", "notification", "gap", "heartbeat", "refreshed", "drain", "close"];

/// Bytes that a `traceparent` takes in a notification's frame: `,"traceparent":"…"`.
pub const TRACEPARENT_FIELD_BYTES: usize = 16 + 55 + 1;

/// A frame from the gateway, apart from `notification`, which is put together by [`write_notification_head`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The first frame of every session.
    Welcome {
        /// This session's name, for logs and support.
        session: String,
        /// Whose mailbox it is.
        user: &'a str,
        /// The position the session starts from: resume with it if the socket breaks before the first notification.
        position: Position,
        /// The mailbox's last position, or the applied position if that is later.
        head: Position,
        /// How often a heartbeat comes, on average, in milliseconds.
        heartbeat_ms: u64,
    },
    /// A range that this session will not receive, in order, where the hole is.
    Gap {
        /// The hole begins behind this position.
        after: Position,
        /// The last position of the hole, and the session's position from now on.
        until: Position,
        /// How many notifications are missing, when known.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        /// The gravest reason for any of them.
        reason: GapReason,
    },
    /// A sign of life that a browser can see.
    Heartbeat,
    /// The session stands on the client's new token.
    Refreshed {
        /// When that token is over (RFC 3339, UTC).
        expires_at: String,
    },
    /// Come back after so many milliseconds. A close with 1012 (restart) or 1013 (overload) follows.
    Drain {
        /// When to reconnect, counted from now, in milliseconds.
        reconnect_in_ms: u64,
    },
    /// The last one of a stream, which has no close frame of its own.
    Close {
        /// The number of a [`CloseCode`].
        code: u16,
        /// Its word.
        reason: &'static str,
    },
}

impl ServerFrame<'_> {
    /// The answer to a new token that is over at this time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn refreshed(expires_at_ms: u64) -> Self {
        Self::Refreshed { expires_at: rfc3339(expires_at_ms.saturating_mul(1_000)) }
    }

    /// What a socket's close frame says.
    #[must_use]
    pub const fn close(code: CloseCode) -> Self {
        Self::Close { code: code.number(), reason: code.reason() }
    }

    /// The frame's JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialize")
    }
}

/// A frame from a client.
///
/// Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The client has everything that its session was given up to a position: cumulative; old ones are harmless.
    Ack {
        /// Up to here.
        position: Position,
        /// Where the client's unbroken reading began, if that was in an earlier session: what it read since is covered too.
        after: Option<Position>,
        /// The client's own span, if it records one.
        trace: Option<TraceContext>,
    },
    /// The client has a new token: its session shall stand on that one.
    Refresh {
        /// It must be the same user's.
        token: Secret,
    },
}

/// What is wrong with a client's text message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientFrame {
    /// Not a JSON object with a text `type`, or not what that type prescribes.
    #[error("a frame is a JSON object with a \"type\" and that type's fields")]
    NotAFrame,
    /// A well-formed frame of a type this version does not know.
    #[error("unknown frame type")]
    UnknownType,
}

impl ClientFrame {
    /// Parses a text message.
    ///
    /// # Errors
    /// [`InvalidClientFrame`], which the session answers with a close code.
    pub fn parse(text: &str) -> Result<Self, InvalidClientFrame> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            position: Option<Cow<'a, str>>,
            #[serde(borrow)]
            after: Option<Cow<'a, str>>,
            // Whatever it holds: one that is not understood is as good as none (W3C Trace Context §4.3).
            traceparent: Option<Value>,
            // Likewise, unless the frame is about it.
            token: Option<Value>,
        }
        // serde also reads a struct from an array of its fields in order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(InvalidClientFrame::NotAFrame);
        }
        let position = |text: Cow<'_, str>| text.parse().map_err(|_| InvalidClientFrame::NotAFrame);
        let envelope =
            serde_json::from_str::<Envelope<'_>>(text).map_err(|_| InvalidClientFrame::NotAFrame)?;
        match (&*envelope.kind, envelope.position) {
            ("ack", Some(acked)) => {
                let parent =
                    envelope.traceparent.as_ref().and_then(Value::as_str).and_then(TraceParent::parse);
                Ok(Self::Ack {
                    position: position(acked)?,
                    after: envelope.after.map(position).transpose()?,
                    trace: parent.filter(|parent| parent.sampled).map(|parent| parent.context),
                })
            }
            ("refresh", _) => {
                let Some(Value::String(token)) = envelope.token else {
                    return Err(InvalidClientFrame::NotAFrame);
                };
                Ok(Self::Refresh { token: Secret::new(token) })
            }
            ("ack", None) => Err(InvalidClientFrame::NotAFrame),
            _ => Err(InvalidClientFrame::UnknownType),
        }
    }
}

/// Encodes the body of a notification's frame: what follows `prev`, with the closing brace.
///
/// `sent_at` is the time of acceptance (RFC 3339, UTC). `traceparent` (W3C Trace Context) is there when the notification's
/// trace is recorded. Absent fields are left out.
#[must_use]
pub fn encode_body(notification: &Notification, trace: Option<TraceContext>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        id: NotificationId,
        sent_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    }
    let object = serde_json::to_vec(&Body {
        id: notification.id,
        sent_at: rfc3339(notification.accepted_at_us),
        from: notification.from.as_deref(),
        title: notification.title.as_deref(),
        body: notification.body.as_deref(),
        data: notification.data.as_ref(),
        topic: match &notification.target {
            Target::Users(_) => None,
            Target::Topic(topic) => Some(topic.as_str()),
            Target::Everybody => Some(TopicName::EVERYBODY),
        },
        traceparent: trace.map(TraceContext::traceparent),
    });
    let mut body = object.expect("text, numbers and JSON values always serialize");
    // The opening brace belongs to the head.
    body.remove(0);
    body
}

/// Appends the head of a notification's frame; the shared body follows it.
pub fn write_notification_head(out: &mut Vec<u8>, epoch: Epoch, number: u64, prev: u64) {
    let digits = epoch.digits();
    out.extend_from_slice(br#"{"type":"notification","position":""#);
    write_position(out, &digits, number);
    out.extend_from_slice(br#"","prev":""#);
    write_position(out, &digits, prev);
    out.extend_from_slice(br#"","#);
}

/// Appends the head of a notification to everybody who is connected: it has no position.
pub fn write_broadcast_head(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"notification","#);
}

fn write_position(out: &mut Vec<u8>, epoch_digits: &[u8], number: u64) {
    out.extend_from_slice(epoch_digits);
    out.push(b'-');
    // By hand: this runs twice a frame, and the formatting machinery costs more than the rest of the head.
    let mut decimal = [0_u8; 20];
    let mut start = decimal.len();
    let mut rest = number;
    loop {
        start -= 1;
        decimal[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&decimal[start..]);
}

fn rfc3339(unix_us: u64) -> String {
    let microseconds = i64::try_from(unix_us).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(microseconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests;
