//! The books: every notification that came to a mailbox is pending or has exactly one final outcome.
//!
//! Kept per shard and under its lock, so that at any moment the books can be checked against the mailboxes themselves.

use super::mailbox::{Final, Put};
use crate::domain::{Outcome, RemovalReason};

/// What came, and what became final and how; one for each recipient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Notifications offered to a mailbox.
    pub accepted: u64,
    finals: [u64; RemovalReason::ALL.len()],
    /// Refused by a full mailbox.
    pub rejected: u64,
}

impl Ledger {
    pub(super) fn arrived(&mut self, put: Put, finals: &[Final]) {
        self.accepted += 1;
        self.rejected += u64::from(put == Put::Rejected);
        self.became_final(finals);
    }

    pub(super) fn became_final(&mut self, finals: &[Final]) {
        for one in finals {
            self.finals[one.reason as usize - 1] += 1;
        }
    }

    /// How many ended this way; 0 for `Pending`, which only the mailboxes know.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Pending => 0,
            Outcome::Acked => self.finals[RemovalReason::Acked as usize - 1],
            Outcome::Collapsed => self.finals[RemovalReason::Collapsed as usize - 1],
            Outcome::Withdrawn => self.finals[RemovalReason::Withdrawn as usize - 1],
            Outcome::Expired => self.finals[RemovalReason::Expired as usize - 1],
            Outcome::Overflowed => self.finals[RemovalReason::Overflow as usize - 1],
            Outcome::Rejected => self.rejected,
        }
    }

    /// What came, and how many ended each way, for the metrics.
    pub fn ended(&self) -> impl Iterator<Item = (Outcome, u64)> {
        let ledger = *self;
        Outcome::ALL
            .into_iter()
            .filter(|outcome| *outcome != Outcome::Pending)
            .map(move |outcome| (outcome, ledger.of(outcome)))
    }

    /// By how much the books and what the mailboxes hold differ; 0 if all is well.
    #[must_use]
    pub fn imbalance(&self, pending: u64) -> u64 {
        self.accepted.abs_diff(pending + self.finals.iter().sum::<u64>() + self.rejected)
    }

    /// The books of both.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        for (sum, part) in self.finals.iter_mut().zip(other.finals) {
            *sum += part;
        }
        self
    }
}
