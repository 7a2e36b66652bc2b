//! What a sender POSTs, once it has been validated.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::user_id::UserId;

/// A notification's name: a UUID of version 7 (RFC 9562), so that ids sort by the time of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Who shall receive it; without duplicates, never empty.
    pub recipients: Vec<UserId>,
    /// Who says it, as the receiver will see it.
    pub from: Option<String>,
    /// One line.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// Whatever the receiver's program understands.
    pub data: Option<serde_json::Value>,
    /// How long it may wait for a recipient, in seconds.
    pub ttl_seconds: u32,
    /// What overflow evicts first.
    pub priority: Priority,
}

impl NotificationId {
    /// Wraps a UUID that was made elsewhere (version 7 by convention).
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
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
