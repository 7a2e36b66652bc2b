//! What a sender POSTs, once it has been validated.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::topic::TopicName;
use super::user_id::UserId;

/// A notification's name: a UUID of version 7 (RFC 9562), so that ids sort by the time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(Uuid);

/// What overflow evicts first. It never reorders delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// First to go when a mailbox is full.
    Low = 0,
    /// The default.
    #[default]
    Normal = 1,
    /// Last to go when a mailbox is full.
    High = 2,
}

/// A validated notification, ready to be encoded into the log.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its name, given by the gateway at acceptance.
    pub id: NotificationId,
    /// When the gateway accepted it, in microseconds since the Unix epoch.
    pub accepted_at_us: u64,
    /// Who shall receive it.
    pub target: Target,
    /// Who says it, as the receiver will see it.
    pub from: Option<String>,
    /// One line.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// Whatever the receiver's program understands.
    pub data: Option<serde_json::Value>,
    /// How long it may wait for a recipient, in seconds. 0: only for sessions that are attached when it comes.
    pub ttl_seconds: u32,
    /// It takes the place of one that waits for the same recipient with the same key.
    pub collapse_key: Option<Fingerprint>,
    /// What overflow evicts first.
    pub priority: Priority,
    /// What makes a repetition of the request recognisable.
    pub idempotency: Option<IdempotencyKey>,
}

/// Whom a notification is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// These users; without duplicates, never empty.
    Users(Vec<UserId>),
    /// Whoever is subscribed when the notification is applied.
    Topic(TopicName),
    /// Whoever is connected when the notification is applied; it is kept for nobody.
    Everybody,
}

/// The first bytes of a SHA-256 (FIPS 180-4): stands for a text of any length that is only ever compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; Self::BYTES]);

/// A sender's `Idempotency-Key` in its scope, and what the request said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Of the sender's scope and key.
    pub key: Fingerprint,
    /// Of the request's body: the same key with another body is a mistake.
    pub body: Fingerprint,
}

impl NotificationId {
    /// Wraps a UUID that was made elsewhere (version 7 by convention).
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// When it was made, in milliseconds since the Unix epoch; `None` if it is no UUID of version 7.
    #[must_use]
    pub fn made_at_ms(&self) -> Option<u64> {
        let (seconds, nanoseconds) =
            (self.0.get_version_num() == 7).then(|| self.0.get_timestamp())??.to_unix();
        Some(seconds * 1_000 + u64::from(nanoseconds / 1_000_000))
    }

    /// The sixteen bytes, big-endian.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The inverse of [`NotificationId::as_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl Fingerprint {
    /// 128 bits: nobody finds two texts with the same fingerprint by accident, nor, with 2^64 attempts, on purpose.
    pub const BYTES: usize = 16;

    /// The fingerprint of these parts in this order; where one ends and the next begins matters.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        Self(*digest.first_chunk().expect("a digest has 32 bytes"))
    }

    /// Its first eight bytes, never 0: enough where the others it is compared with are few.
    #[must_use]
    pub fn short(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for NotificationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl Serialize for NotificationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Priority {
    /// Every priority, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word used on the wire and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The inverse of `priority as u8`; `None` for a byte that is no priority.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Low),
            1 => Some(Self::Normal),
            2 => Some(Self::High),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_where_its_parts_end() {
        assert_eq!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"ab", b"c"]));
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
        assert_ne!(Fingerprint::of(&[b"ab"]), Fingerprint::of(&[b"ab", b""]));
    }

    #[test]
    fn an_id_of_version_7_knows_when_it_was_made() {
        let id = NotificationId::from_uuid(Uuid::now_v7());
        assert!(id.made_at_ms().unwrap() > 1_700_000_000_000);
        assert_eq!(NotificationId::from_uuid(Uuid::new_v4()).made_at_ms(), None);
    }
}
