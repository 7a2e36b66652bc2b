//! Sums that are kept anyway, for whoever looks often: unlike the statistics for a scrape they walk no mailbox.

use super::{Ledger, Registry, lock};

/// Sums over all shards. Each shard is looked at in one moment, all of them are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Users the registry knows: those with something held or a session.
    pub known_users: u64,
    /// Users with at least one session.
    pub online_users: u64,
    /// The books, since the oldest entry in the log.
    pub ledger: Ledger,
}

impl Totals {
    /// Notifications that wait for their ack, one for each recipient.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let ended: u64 = self.ledger.ended().map(|(_, count)| count).sum();
        self.ledger.accepted.saturating_sub(ended)
    }

    /// The sums of both.
    #[must_use]
    pub(super) fn merged(self, other: Self) -> Self {
        Self {
            known_users: self.known_users + other.known_users,
            online_users: self.online_users + other.online_users,
            ledger: self.ledger.merged(&other.ledger),
        }
    }
}

impl Registry {
    /// The sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shards.iter().fold(Totals::default(), |sum, shard| sum.merged(lock(shard).totals()))
    }
}
