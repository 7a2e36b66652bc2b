//! What is left of users who were forgotten: how far their past may have reached.
//!
//! One answer for all of a shard, but for losses: who lost something is remembered by name for as long as there is room, so
//! that nobody is told of a loss that was another's.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::mailbox::Floors;
use crate::domain::RemovalReason;

/// Users of a shard whose losses are remembered one by one.
const MAX_LOSSES: usize = 1_024;

/// The floors of a shard's forgotten users.
#[derive(Default)]
pub(super) struct Forgotten {
    floors: Floors,
    losses: HashTable<Loss>,
    /// The same users, in the order they were forgotten.
    order: VecDeque<u64>,
}

struct Loss {
    hash: u64,
    number: u64,
}

impl Forgotten {
    /// What a new mailbox of this user must assume about its past.
    pub(super) fn floors(&self, hash: u64) -> Floors {
        let mut floors = self.floors;
        if let Some(loss) = self.losses.find(hash, |loss| loss.hash == hash) {
            floors.raise(RemovalReason::Overflow, loss.number);
        }
        floors
    }

    /// The same, for a mailbox that remembers its loss itself from now on.
    pub(super) fn take(&mut self, hash: u64) -> Floors {
        let floors = self.floors(hash);
        if let Ok(entry) = self.losses.find_entry(hash, |loss| loss.hash == hash) {
            entry.remove();
            // Rare: somebody who lost something comes back. A stale place would push out others.
            self.order.retain(|known| *known != hash);
        }
        floors
    }

    /// Notes what a forgotten user's mailbox knew.
    pub(super) fn remember(&mut self, hash: u64, floors: &Floors) {
        for reason in RemovalReason::ALL.into_iter().filter(|reason| *reason != RemovalReason::Overflow) {
            self.floors.raise(reason, floors.of(reason));
        }
        let number = floors.of(RemovalReason::Overflow);
        if number <= self.floors.of(RemovalReason::Overflow) {
            return;
        }
        self.losses.insert_unique(hash, Loss { hash, number }, |loss| loss.hash);
        self.order.push_back(hash);
        while self.order.len() > MAX_LOSSES {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Ok(entry) = self.losses.find_entry(oldest, |loss| loss.hash == oldest) {
                let (loss, _) = entry.remove();
                self.floors.raise(RemovalReason::Overflow, loss.number);
            }
        }
    }

    /// Everybody's past may reach so far.
    pub(super) fn raise(&mut self, floors: &Floors) {
        self.floors.merge(floors);
    }

    /// The last number that anybody lost.
    pub(super) fn loss(&self) -> u64 {
        let losses = self.losses.iter().map(|loss| loss.number);
        losses.max().unwrap_or(0).max(self.floors.of(RemovalReason::Overflow))
    }
}
