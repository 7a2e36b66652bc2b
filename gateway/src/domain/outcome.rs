//! What became of a notification, for one recipient.

use serde::{Serialize, Serializer};

/// Why a notification left a mailbox, ordered from benign to grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RemovalReason {
    /// Its time to live had passed.
    Expired = 1,
    /// The mailbox was full and this one had to make room.
    Overflow = 2,
}

/// Why a session will not receive a range, ordered from benign to grave: a gap carries the gravest that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Time to live had passed: nothing was lost that still mattered.
    Expired,
    /// The mailbox's bound pushed it out: a loss.
    Overflow,
    /// The position belongs to another history of the log: a loss of unknown size.
    Epoch,
}

/// Why an accepted or offered notification does not reach a recipient: the label of the drop counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Evicted from a full mailbox under the policy `drop-oldest`.
    Overflow,
    /// Refused by a full mailbox under the policy `reject`.
    Rejected,
}

/// What a full mailbox does with one notification more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverflowPolicy {
    /// The lowest priority goes first, within it the oldest. A newcomer of lower priority than all that waits goes itself.
    #[default]
    DropOldest,
    /// The newcomer is refused; the sender learns it.
    Reject,
}

impl GapReason {
    /// Every reason, in order of gravity.
    pub const ALL: [Self; 3] = [Self::Expired, Self::Overflow, Self::Epoch];

    /// The word that stands in the `gap` frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Epoch => "epoch",
        }
    }
}

impl Serialize for GapReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl From<RemovalReason> for GapReason {
    fn from(reason: RemovalReason) -> Self {
        match reason {
            RemovalReason::Expired => Self::Expired,
            RemovalReason::Overflow => Self::Overflow,
        }
    }
}

impl DropReason {
    /// Every reason a notification is dropped for.
    pub const ALL: [Self; 2] = [Self::Overflow, Self::Rejected];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Rejected => "rejected",
        }
    }
}
