//! The encoding of an entry: one format version byte, one kind byte, the fields (integers little-endian).
//!
//! An entry is encoded once, by the task that accepted it, and decoded by the applying thread without copying: names and
//! frame body stay slices of the entry. A format version or kind that this build does not know is an error of its own, so
//! that a node stops rather than skip what it does not understand.

mod holding;
mod names;
mod publish;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::MAX_ENTRY_BYTES;

pub use holding::{AsOf, Holding, encode_holding};
pub use names::Names;
pub use publish::{Publish, PublishTrace, Recipients, encode_publish};

/// The newest format this build knows: 2 has a trace in publish entries, 3 says as of when what is held was gathered; everything
/// else is written as 1.
const FORMAT_VERSION: u8 = 3;
const DATED_HOLDING_VERSION: u8 = 3;
const TRACED_VERSION: u8 = 2;
const PLAIN_VERSION: u8 = 1;

/// Bytes in front of the fields: version and kind.
pub const ENTRY_HEADER_BYTES: usize = 2;

const KIND_PUBLISH: u8 = 1;
const KIND_SETTINGS: u8 = 2;
const KIND_TICK: u8 = 3;
const KIND_GIVE_UP: u8 = 4;
const KIND_ACKS: u8 = 5;
const KIND_WITHDRAW: u8 = 6;
const KIND_SUBSCRIBE: u8 = 7;
const KIND_UNSUBSCRIBE: u8 = 8;
const KIND_FORGET_USER: u8 = 9;
const KIND_FLOOR: u8 = 10;
const KIND_HOLDING: u8 = 11;
const KIND_EPOCH: u8 = 12;

/// A decoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A notification to one user, many, a topic's subscribers, or everybody.
    Publish(Publish),
    /// What users acked, gathered by one node.
    Acks(Vec<Ack>),
    /// A sender takes a notification back, as far as it is still pending.
    Withdraw(Withdraw),
    /// Users join a topic.
    Subscribe(Membership),
    /// Users leave a topic.
    Unsubscribe(Membership),
    /// A user is forgotten: what waits is withdrawn, memberships end.
    ForgetUser {
        /// The user.
        user: Bytes,
    },
    /// What apply depends on, from here on.
    Settings(Settings),
    /// Nothing but its timestamp: moves log time on when something is due.
    Tick,
    /// The log runs short of room: what still waits up to this number is dropped as overflow.
    GiveUp {
        /// The last number that is given up.
        through: u64,
    },
    /// What must stay known of a part of the log that is about to be dropped.
    Floor(Floor),
    /// What still holds, said again.
    Holding(Holding),
    /// Positions from before mean nothing any more; for whoever keeps the log, nothing that is applied.
    Epoch(u64),
}

/// One user's ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The user; checked to be UTF-8.
    pub user: Bytes,
    /// What stands at or before this number is not covered.
    pub after: u64,
    /// The last number that is covered.
    pub until: u64,
}

/// A notification that its sender takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdraw {
    /// Its place in the log.
    pub number: u64,
    /// Whose mailboxes have it; `None` if it went to a topic, whose subscribers of that moment apply remembers.
    pub recipients: Option<Names>,
}

/// Users who join or leave a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The topic; checked to be UTF-8.
    pub topic: Bytes,
    /// Who.
    pub users: Names,
}

/// What must stay known of a part of the log that is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// The last number of that part.
    pub through: u64,
    /// The last number in it that some mailbox lost to overflow, 0 if none did.
    pub loss: u64,
}

/// What apply depends on; enters the log when it changes, so that every node applies the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Notifications a mailbox holds.
    pub mailbox_max_count: u32,
    /// Bytes of frames a mailbox holds.
    pub mailbox_max_bytes: u64,
    /// Whether a full mailbox refuses instead of evicting.
    pub reject_on_overflow: bool,
    /// Acked notifications a mailbox keeps for the user's other devices.
    pub history: u32,
    /// The longest time to live, in seconds; a longer one is cut.
    pub max_ttl_seconds: u32,
    /// How long an idempotency key is remembered, in seconds of log time.
    pub idempotency_window_seconds: u32,
    /// Idempotency keys that are remembered.
    pub idempotency_max_keys: u32,
    /// How long an outcome can be asked for once it is final, in seconds of log time.
    pub outcome_retention_seconds: u32,
    /// Recipients whose outcomes are remembered.
    pub outcome_max_recipients: u32,
    /// Users who may subscribe to one topic.
    pub topic_max_subscribers: u32,
    /// Topics one user may subscribe to.
    pub user_max_topics: u32,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a later version.
    #[error("entry format {0} is newer than this build understands ({FORMAT_VERSION})")]
    UnknownVersion(u8),
    /// A kind this build does not know.
    #[error("entry kind {0} is not known to this build")]
    UnknownKind(u8),
    /// Too short, too long, or not what its kind prescribes.
    #[error("the entry is damaged: {0}")]
    Damaged(&'static str),
}

/// The encoded entry would exceed [`MAX_ENTRY_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "with its names this takes {0} bytes in the log, at most {MAX_ENTRY_BYTES} fit; name fewer users at once"
)]
pub struct EntryTooLarge(pub usize);

impl Ack {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        checked_text(&self.user)
    }
}

impl Membership {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        checked_text(&self.topic)
    }
}

/// Encodes a settings entry.
#[must_use]
pub fn encode_settings(settings: &Settings) -> Bytes {
    let mut out = vec![PLAIN_VERSION, KIND_SETTINGS];
    serde_json::to_writer(&mut out, settings).expect("numbers serialize, and a vector takes them");
    out.into()
}

/// Encodes a tick.
#[must_use]
pub fn encode_tick() -> Bytes {
    Bytes::from_static(&[PLAIN_VERSION, KIND_TICK])
}

/// Encodes the decision to give up everything up to `through`.
#[must_use]
pub fn encode_give_up(through: u64) -> Bytes {
    let mut out = header(KIND_GIVE_UP, 8);
    out.put_u64_le(through);
    out.freeze()
}

/// Encodes what must stay known of a part of the log.
#[must_use]
pub fn encode_floor(floor: Floor) -> Bytes {
    let mut out = header(KIND_FLOOR, 16);
    out.put_u64_le(floor.through);
    out.put_u64_le(floor.loss);
    out.freeze()
}

/// Encodes that positions from before mean nothing any more; `bits` are random.
#[must_use]
pub fn encode_epoch(bits: u64) -> Bytes {
    let mut out = header(KIND_EPOCH, 8);
    out.put_u64_le(bits);
    out.freeze()
}

/// The bits of an epoch entry; `None` if it is none.
#[must_use]
pub fn epoch_bits(payload: &Bytes) -> Option<u64> {
    match decode(payload) {
        Ok(Entry::Epoch(bits)) => Some(bits),
        _ => None,
    }
}

/// Bytes of one ack in an entry, for whoever splits many of them.
#[must_use]
pub fn ack_bytes(user: &str) -> usize {
    2 + user.len() + 16
}

/// Encodes acks; [`ack_bytes`] of all of them and [`ENTRY_HEADER_BYTES`] must fit an entry.
#[must_use]
pub fn encode_acks<'a>(acks: impl Iterator<Item = (&'a str, u64, u64)> + Clone) -> Bytes {
    let size = acks.clone().map(|(user, ..)| ack_bytes(user)).sum();
    let mut out = header(KIND_ACKS, size);
    for (user, after, until) in acks {
        names::put_name(&mut out, user);
        out.put_u64_le(after);
        out.put_u64_le(until);
    }
    out.freeze()
}

/// Encodes the wish to take a notification back from these users, or from a topic's.
///
/// # Errors
/// [`EntryTooLarge`]; never for the recipients of one publish entry.
pub fn encode_withdraw(number: u64, recipients: Option<&Names>) -> Result<Bytes, EntryTooLarge> {
    let names = recipients.map_or(0, Names::encoded_len);
    let mut out = fitting_header(KIND_WITHDRAW, 8 + 1 + names)?;
    out.put_u64_le(number);
    out.put_u8(u8::from(recipients.is_some()));
    if let Some(recipients) = recipients {
        recipients.put(&mut out);
    }
    Ok(out.freeze())
}

/// Encodes users who join a topic.
///
/// # Errors
/// [`EntryTooLarge`] when there are too many.
pub fn encode_subscribe<'a>(
    topic: &str,
    users: impl Iterator<Item = &'a str> + Clone,
) -> Result<Bytes, EntryTooLarge> {
    encode_membership(KIND_SUBSCRIBE, topic, users)
}

/// Encodes users who leave a topic.
///
/// # Errors
/// [`EntryTooLarge`] when there are too many.
pub fn encode_unsubscribe<'a>(
    topic: &str,
    users: impl Iterator<Item = &'a str> + Clone,
) -> Result<Bytes, EntryTooLarge> {
    encode_membership(KIND_UNSUBSCRIBE, topic, users)
}

fn encode_membership<'a>(
    kind: u8,
    topic: &str,
    users: impl Iterator<Item = &'a str> + Clone,
) -> Result<Bytes, EntryTooLarge> {
    let mut out = fitting_header(kind, 2 + topic.len() + Names::encoded_len_of(users.clone()))?;
    names::put_name(&mut out, topic);
    Names::put_all(&mut out, users);
    Ok(out.freeze())
}

/// Encodes that a user is forgotten.
#[must_use]
pub fn encode_forget_user(user: &str) -> Bytes {
    let mut out = header(KIND_FORGET_USER, 2 + user.len());
    names::put_name(&mut out, user);
    out.freeze()
}

/// Decodes an entry; names and body share its memory.
///
/// # Errors
/// [`DecodeError`]; the bytes are never skipped silently.
pub fn decode(payload: &Bytes) -> Result<Entry, DecodeError> {
    let mut rest = payload.clone();
    if rest.len() < 2 {
        return Err(DecodeError::Damaged("shorter than its header"));
    }
    let version = rest.get_u8();
    if !(PLAIN_VERSION..=FORMAT_VERSION).contains(&version) {
        return Err(DecodeError::UnknownVersion(version));
    }
    let kind = rest.get_u8();
    let rest = &mut rest;
    let entry = match kind {
        // Its body is whatever is left.
        KIND_PUBLISH => return publish::decode_publish(rest).map(Entry::Publish),
        KIND_SETTINGS => {
            let settings = serde_json::from_slice(&rest.split_to(rest.len()));
            Entry::Settings(settings.map_err(|_| DecodeError::Damaged("settings are not as written"))?)
        }
        KIND_TICK => Entry::Tick,
        KIND_GIVE_UP => Entry::GiveUp { through: take_u64(rest)? },
        KIND_ACKS => Entry::Acks(decode_acks(rest)?),
        KIND_WITHDRAW => Entry::Withdraw(decode_withdraw(rest)?),
        KIND_SUBSCRIBE => Entry::Subscribe(decode_membership(rest)?),
        KIND_UNSUBSCRIBE => Entry::Unsubscribe(decode_membership(rest)?),
        KIND_FORGET_USER => Entry::ForgetUser { user: names::take_name(rest)? },
        KIND_FLOOR => Entry::Floor(Floor { through: take_u64(rest)?, loss: take_u64(rest)? }),
        KIND_HOLDING => Entry::Holding(holding::decode_holding(version, rest)?),
        KIND_EPOCH => Entry::Epoch(take_u64(rest)?),
        kind => return Err(DecodeError::UnknownKind(kind)),
    };
    if rest.is_empty() { Ok(entry) } else { Err(DecodeError::Damaged("longer than its kind allows")) }
}

fn decode_acks(rest: &mut Bytes) -> Result<Vec<Ack>, DecodeError> {
    let mut acks = Vec::new();
    while !rest.is_empty() {
        let user = names::take_name(rest)?;
        acks.push(Ack { user, after: take_u64(rest)?, until: take_u64(rest)? });
    }
    Ok(acks)
}

fn decode_withdraw(rest: &mut Bytes) -> Result<Withdraw, DecodeError> {
    let number = take_u64(rest)?;
    let recipients = match take_u8(rest)? {
        0 => None,
        _ => Some(Names::take(rest)?),
    };
    Ok(Withdraw { number, recipients })
}

fn decode_membership(rest: &mut Bytes) -> Result<Membership, DecodeError> {
    Ok(Membership { topic: names::take_name(rest)?, users: Names::take(rest)? })
}

fn take_u64(rest: &mut Bytes) -> Result<u64, DecodeError> {
    rest.try_get_u64_le().map_err(|_| TOO_SHORT)
}

fn take_u32(rest: &mut Bytes) -> Result<u32, DecodeError> {
    rest.try_get_u32_le().map_err(|_| TOO_SHORT)
}

fn take_u8(rest: &mut Bytes) -> Result<u8, DecodeError> {
    rest.try_get_u8().map_err(|_| TOO_SHORT)
}

const TOO_SHORT: DecodeError = DecodeError::Damaged("shorter than its kind prescribes");

fn header(kind: u8, fields: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(2 + fields);
    out.put_slice(&[PLAIN_VERSION, kind]);
    out
}

fn fitting_header(kind: u8, fields: usize) -> Result<BytesMut, EntryTooLarge> {
    if 2 + fields > MAX_ENTRY_BYTES { Err(EntryTooLarge(2 + fields)) } else { Ok(header(kind, fields)) }
}

fn checked_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("checked when the entry was decoded")
}

#[cfg(test)]
mod tests;
