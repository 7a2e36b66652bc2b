//! What became of a notification, for one recipient.

use serde::{Serialize, Serializer};

/// Why a notification left a mailbox, ordered from benign to grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RemovalReason {
    /// The user acked it, and the history of acked ones had no more room for it.
    Acked = 1,
    /// A later one with the same collapse key took its place.
    Collapsed = 2,
    /// Its sender took it back, or the user was forgotten.
    Withdrawn = 3,
    /// Its time to live had passed.
    Expired = 4,
    /// The mailbox was full and this one had to make room.
    Overflow = 5,
}

/// What became of a notification for one recipient. All but `Pending` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It waits for the recipient's ack.
    Pending = 0,
    /// A device of the recipient acked it.
    Acked = 1,
    /// A later one with the same collapse key took its place.
    Collapsed = 2,
    /// Its sender took it back, or the recipient was forgotten.
    Withdrawn = 3,
    /// Its time to live passed first.
    Expired = 4,
    /// A full mailbox pushed it out.
    Overflowed = 5,
    /// A full mailbox refused it.
    Rejected = 6,
}

/// Why a session will not receive a range, ordered from benign to grave: a gap carries the gravest that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The user has acked it, on another device or before.
    Acked,
    /// Later ones with the same collapse key took their places.
    Collapsed,
    /// The senders took them back.
    Withdrawn,
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

impl RemovalReason {
    /// Every reason, in order of gravity.
    pub const ALL: [Self; 5] = [Self::Acked, Self::Collapsed, Self::Withdrawn, Self::Expired, Self::Overflow];
}

impl Outcome {
    /// Every outcome, in the order of its byte.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Acked,
        Self::Collapsed,
        Self::Withdrawn,
        Self::Expired,
        Self::Overflowed,
        Self::Rejected,
    ];

    /// The word in an answer; the two ways of being dropped share one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Acked => "acked",
            Self::Collapsed => "collapsed",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Overflowed | Self::Rejected => "dropped",
        }
    }

    /// Why it was dropped, if it was.
    #[must_use]
    pub const fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Overflowed => Some(DropReason::Overflow),
            Self::Rejected => Some(DropReason::Rejected),
            _ => None,
        }
    }
}

impl From<RemovalReason> for Outcome {
    fn from(reason: RemovalReason) -> Self {
        match reason {
            RemovalReason::Acked => Self::Acked,
            RemovalReason::Collapsed => Self::Collapsed,
            RemovalReason::Withdrawn => Self::Withdrawn,
            RemovalReason::Expired => Self::Expired,
            RemovalReason::Overflow => Self::Overflowed,
        }
    }
}

impl GapReason {
    /// Every reason, in order of gravity.
    pub const ALL: [Self; 6] =
        [Self::Acked, Self::Collapsed, Self::Withdrawn, Self::Expired, Self::Overflow, Self::Epoch];

    /// The word that stands in the `gap` frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Collapsed => "collapsed",
            Self::Withdrawn => "withdrawn",
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
            RemovalReason::Acked => Self::Acked,
            RemovalReason::Collapsed => Self::Collapsed,
            RemovalReason::Withdrawn => Self::Withdrawn,
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
