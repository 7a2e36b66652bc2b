//! The entry of a notification.

use bytes::{Buf, BufMut, Bytes};

use super::names::{self, Names};
use super::{
    DecodeError, EntryTooLarge, KIND_PUBLISH, TOO_SHORT, TRACED_VERSION, checked_text, fitting_header,
    take_u32,
};
use crate::domain::{
    Fingerprint, IdempotencyKey, Notification, NotificationId, Priority, Target, TraceContext,
};
use crate::protocol::TRACEPARENT_FIELD_BYTES;

/// The fields in front of the target: flags, id, acceptance, time to live, priority.
const FIXED_BYTES: usize = 1 + 16 + 8 + 4 + 1;

/// A trace's ids and how many notifications its span published.
const TRACE_BYTES: usize = TraceContext::BYTES + 4;

const TARGET_USERS: u8 = 0;
const TARGET_TOPIC: u8 = 1;
const TARGET_EVERYBODY: u8 = 2;
const HAS_COLLAPSE_KEY: u8 = 0b0100;
const HAS_IDEMPOTENCY_KEY: u8 = 0b1000;
const HAS_TRACE: u8 = 0b1_0000;

/// A notification as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The notification's name.
    pub id: NotificationId,
    /// When the gateway accepted it, in microseconds since the Unix epoch.
    pub accepted_at_us: u64,
    /// How long it may wait, in seconds of log time; 0: only for sessions attached when it is applied.
    pub ttl_seconds: u32,
    /// What overflow evicts first.
    pub priority: Priority,
    /// What it replaces.
    pub collapse_key: Option<Fingerprint>,
    /// What makes its repetition recognisable.
    pub idempotency: Option<IdempotencyKey>,
    /// The recorded trace it belongs to.
    pub trace: Option<PublishTrace>,
    /// To whom.
    pub recipients: Recipients,
    /// The shared part of its frame; see [`crate::protocol::encode_body`].
    pub body: Bytes,
}

/// The recorded span that published a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishTrace {
    /// The span.
    pub context: TraceContext,
    /// How many notifications it published: those of a batch are one span.
    pub notifications: u32,
}

/// Whom a publish entry is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// These users.
    Users(Names),
    /// Whoever is subscribed to the topic of this name when the entry is applied.
    Topic(Bytes),
    /// Whoever is connected when the entry is applied.
    Everybody,
}

impl Recipients {
    /// The topic's name, if it is for one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(name) => Some(checked_text(name)),
            Self::Users(_) | Self::Everybody => None,
        }
    }
}

/// Encodes a notification with the body of its frame and the recorded trace it belongs to.
///
/// # Errors
/// [`EntryTooLarge`] when names and body together do not fit an entry.
pub fn encode_publish(
    notification: &Notification,
    trace: Option<PublishTrace>,
    body: &[u8],
) -> Result<Bytes, EntryTooLarge> {
    let (target, target_bytes) = match &notification.target {
        Target::Users(users) => (TARGET_USERS, Names::encoded_len_of(users.iter().map(|user| user.as_str()))),
        Target::Topic(topic) => (TARGET_TOPIC, 2 + topic.as_str().len()),
        Target::Everybody => (TARGET_EVERYBODY, 0),
    };
    let keys = notification.collapse_key.map_or(0, |_| Fingerprint::BYTES)
        + notification.idempotency.map_or(0, |_| 2 * Fingerprint::BYTES)
        + trace.map_or(0, |_| TRACE_BYTES);
    let mut flags = target;
    flags |= if notification.collapse_key.is_some() { HAS_COLLAPSE_KEY } else { 0 };
    flags |= if notification.idempotency.is_some() { HAS_IDEMPOTENCY_KEY } else { 0 };
    flags |= if trace.is_some() { HAS_TRACE } else { 0 };

    // Whether it fits does not depend on whether it is recorded.
    let room = if trace.is_some() { 0 } else { TRACE_BYTES + TRACEPARENT_FIELD_BYTES };
    let fields = FIXED_BYTES + target_bytes + keys + body.len();
    let mut out = fitting_header(KIND_PUBLISH, fields + room)?;
    if trace.is_some() {
        out[0] = TRACED_VERSION;
    }
    out.put_u8(flags);
    out.put_slice(notification.id.as_bytes());
    out.put_u64_le(notification.accepted_at_us);
    out.put_u32_le(notification.ttl_seconds);
    out.put_u8(notification.priority as u8);
    if let Some(key) = notification.collapse_key {
        out.put_slice(&key.0);
    }
    if let Some(IdempotencyKey { key, body }) = notification.idempotency {
        out.put_slice(&key.0);
        out.put_slice(&body.0);
    }
    if let Some(trace) = trace {
        out.put_slice(&trace.context.to_bytes());
        out.put_u32_le(trace.notifications);
    }
    match &notification.target {
        Target::Users(users) => Names::put_all(&mut out, users.iter().map(|user| user.as_str())),
        Target::Topic(topic) => names::put_name(&mut out, topic.as_str()),
        Target::Everybody => {}
    }
    out.put_slice(body);
    Ok(out.freeze())
}

pub(super) fn decode_publish(rest: &mut Bytes) -> Result<Publish, DecodeError> {
    if rest.len() < FIXED_BYTES {
        return Err(TOO_SHORT);
    }
    let flags = rest.get_u8();
    let mut id = [0; 16];
    rest.copy_to_slice(&mut id);
    let accepted_at_us = rest.get_u64_le();
    let ttl_seconds = rest.get_u32_le();
    let priority = Priority::from_byte(rest.get_u8()).ok_or(DecodeError::Damaged("no such priority"))?;
    let collapse_key = if flags & HAS_COLLAPSE_KEY == 0 { None } else { Some(take_fingerprint(rest)?) };
    let idempotency = if flags & HAS_IDEMPOTENCY_KEY == 0 {
        None
    } else {
        Some(IdempotencyKey { key: take_fingerprint(rest)?, body: take_fingerprint(rest)? })
    };
    let trace = if flags & HAS_TRACE == 0 { None } else { Some(take_trace(rest)?) };
    let recipients = match flags & !(HAS_COLLAPSE_KEY | HAS_IDEMPOTENCY_KEY | HAS_TRACE) {
        TARGET_USERS => Recipients::Users(Names::take(rest)?),
        TARGET_TOPIC => Recipients::Topic(names::take_name(rest)?),
        TARGET_EVERYBODY => Recipients::Everybody,
        _ => return Err(DecodeError::Damaged("no such target")),
    };
    Ok(Publish {
        id: NotificationId::from_bytes(id),
        accepted_at_us,
        ttl_seconds,
        priority,
        collapse_key,
        idempotency,
        trace,
        recipients,
        body: rest.split_to(rest.len()),
    })
}

fn take_fingerprint(rest: &mut Bytes) -> Result<Fingerprint, DecodeError> {
    let mut fingerprint = Fingerprint([0; Fingerprint::BYTES]);
    rest.try_copy_to_slice(&mut fingerprint.0).map_err(|_| TOO_SHORT)?;
    Ok(fingerprint)
}

fn take_trace(rest: &mut Bytes) -> Result<PublishTrace, DecodeError> {
    let mut context = [0; TraceContext::BYTES];
    rest.try_copy_to_slice(&mut context).map_err(|_| TOO_SHORT)?;
    let context = TraceContext::from_bytes(context).ok_or(DecodeError::Damaged("no such trace"))?;
    Ok(PublishTrace { context, notifications: take_u32(rest)? })
}
