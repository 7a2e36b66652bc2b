//! A user's bounded, ordered queue: an index over the log.
//!
//! The mailbox holds no text, only where each notification stands in the log, in order: those that are *pending* and, as
//! *history* for the user's other devices, the last few that are acked. Sessions read it with cursors; what was removed
//! before a cursor reached it comes out as a gap. Invariants: pending and acked together never exceed the bounds, every
//! removed notification is either a tombstone, the `hole` of the slot behind it, or part of the front, and `ordinal` counts
//! every notification that ever came, so that a gap can say how many it covers.

mod reading;
mod removing;
mod slots;

use crate::domain::{OverflowPolicy, Priority, RemovalReason};

pub use reading::{Cursor, Item, PullLimits};
pub use removing::Readers;
use slots::{Slot, SlotState, Slots};

/// How much a mailbox may hold and what happens beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Notifications, pending and acked ones together.
    pub max_count: u32,
    /// Bytes of their frames.
    pub max_bytes: u64,
    /// What happens when one more comes and no acked one is left to make room.
    pub policy: OverflowPolicy,
    /// Acked notifications that stay readable.
    pub history: u32,
}

/// A notification on its way into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its place in the log; greater than any before.
    pub number: u64,
    /// When it is due, in seconds of log time.
    pub expires_at_s: u32,
    /// The size of its frame's body.
    pub bytes: u32,
    /// What overflow evicts first.
    pub priority: Priority,
    /// It replaces the pending one with the same key; 0: none.
    pub collapse_key: u64,
    /// Only for sessions that are attached when it comes.
    pub volatile: bool,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It waits.
    Kept,
    /// It lost to what was there: all of higher priority. Counted as overflow, announced as a gap.
    Dropped,
    /// Refused by policy; the mailbox never saw it.
    Rejected,
}

/// A pending notification that became final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Final {
    /// Its place in the log.
    pub number: u64,
    /// The recipient's index among the notification's recipients.
    pub recipient: u32,
    /// What became of it.
    pub reason: RemovalReason,
}

/// What an operation on a mailbox says beside its result.
#[derive(Debug, Default)]
pub struct Effects {
    /// Notifications that became final, in the order in which that happened.
    pub finals: Vec<Final>,
    /// The fate of the second number depended on the first one being there: a log that keeps the second must keep the first.
    pub dependencies: Vec<(u64, u64)>,
}

/// For each [`RemovalReason`], the last number known to be missing for it: what a new mailbox must assume about its past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floors([u64; RemovalReason::ALL.len()]);

/// One user's queue.
#[derive(Debug)]
pub struct Mailbox {
    slots: Slots,
    /// The number and ordinal of the last notification that came.
    last: u64,
    last_ordinal: u32,
    /// The number of the first notification that ever came, 0 before.
    origin: u64,
    /// Up to here the user may have been forgotten before this mailbox was made.
    floor: u64,
}

impl Floors {
    /// Notes that `number` is missing for this reason.
    pub fn raise(&mut self, reason: RemovalReason, number: u64) {
        let floor = &mut self.0[reason as usize - 1];
        *floor = (*floor).max(number);
    }

    /// The last number missing for this reason.
    #[must_use]
    pub fn of(&self, reason: RemovalReason) -> u64 {
        self.0[reason as usize - 1]
    }

    /// The last number missing for any reason.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.0.into_iter().max().unwrap_or(0)
    }

    /// What both know.
    pub fn merge(&mut self, other: &Self) {
        for reason in RemovalReason::ALL {
            self.raise(reason, other.of(reason));
        }
    }

    /// The gravest reason for what is missing behind `after`.
    #[must_use]
    pub fn gravest_behind(&self, after: u64) -> Option<RemovalReason> {
        RemovalReason::ALL.into_iter().rev().find(|reason| self.of(*reason) > after)
    }
}

impl Mailbox {
    /// An empty mailbox of a user who may have been forgotten before.
    #[must_use]
    pub fn new(floors: Floors) -> Self {
        Self {
            slots: Slots::new(floors),
            last: floors.until(),
            last_ordinal: 0,
            origin: 0,
            floor: floors.until(),
        }
    }

    /// Takes a notification in, under the overflow policy. `recipient` is the user's index among its recipients.
    ///
    /// What makes room, in this order: the pending one with the same collapse key, acked ones, then, as the policy says,
    /// pending ones of the lowest priority, oldest first. Nothing is removed for a newcomer that is not kept.
    pub fn put(
        &mut self,
        arrival: &Arrival,
        recipient: u32,
        bounds: &Bounds,
        readers: Readers,
        effects: &mut Effects,
    ) -> Put {
        debug_assert!(arrival.number > self.last, "numbers grow");
        let replaced = self.slots.pending_with_key(arrival.collapse_key);
        let (count, bytes) = self.slots.pending_without(replaced);
        let fits_pending = count < bounds.max_count && bytes + u64::from(arrival.bytes) <= bounds.max_bytes;
        if !fits_pending {
            if bounds.policy == OverflowPolicy::Reject {
                self.depends_on_oldest(arrival.number, effects);
                return Put::Rejected;
            }
            if !self.could_make_room(arrival, replaced, bounds) {
                self.depends_on_oldest(arrival.number, effects);
                self.push(arrival, recipient, SlotState::Removed(RemovalReason::Overflow));
                effects.finals.push(Final {
                    number: arrival.number,
                    recipient,
                    reason: RemovalReason::Overflow,
                });
                return Put::Dropped;
            }
        }
        if let Some(index) = replaced {
            self.remove(index, RemovalReason::Collapsed, effects);
        }
        self.make_room(arrival, bounds, effects);
        self.push(arrival, recipient, SlotState::Pending);
        self.let_go(bounds, readers);
        Put::Kept
    }

    /// When the next notification is due, in seconds of log time.
    #[must_use]
    pub fn next_due_s(&self) -> Option<u32> {
        self.slots.iter().filter(|slot| slot.is_there()).map(|slot| slot.expires_at_s).min()
    }

    /// The number of the last notification that came, 0 if none is remembered.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Like [`Mailbox::last`], but 0 if nothing came since the user was forgotten.
    #[must_use]
    pub fn last_arrival(&self) -> u64 {
        if self.origin == 0 { 0 } else { self.last }
    }

    /// The number of the oldest notification that is held.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.number)
    }

    /// Whether neither pending nor acked notifications are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.pending() == 0 && self.slots.acked() == 0
    }

    /// Notifications that wait for their ack.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.slots.pending()
    }

    /// The same, counted by walking the mailbox: what the ledger is checked against.
    #[must_use]
    pub fn pending_by_walking(&self) -> u64 {
        self.slots.iter().filter(|slot| slot.state == SlotState::Pending).count() as u64
    }

    /// What waits for its ack, and is more than a matter of seconds: each one's number, and when it is due.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, u32)> {
        let pending = self.slots.iter().filter(|slot| slot.state == SlotState::Pending && !slot.volatile);
        pending.map(|slot| (slot.number, slot.expires_at_s))
    }

    /// Bytes of the frames that wait for their ack.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.slots.pending_bytes()
    }

    /// What is left to say about this mailbox once it is forgotten: it covers all that came, what only sessions that have
    /// left kept here, too.
    #[must_use]
    pub fn floors(&self) -> Floors {
        let mut floors = self.slots.floors();
        for slot in self.slots.iter() {
            if let Some(reason) = slot.hole {
                floors.raise(reason, slot.prev);
            }
            match slot.state {
                SlotState::Removed(reason) => floors.raise(reason, slot.number),
                SlotState::Released => floors.raise(RemovalReason::Acked, slot.number),
                SlotState::Pending | SlotState::Acked => {}
            }
        }
        floors
    }

    /// What was missing in front of all that came here.
    pub fn raise_floors(&mut self, floors: &Floors) {
        let until = floors.until();
        if self.origin != 0 && until >= self.origin {
            return;
        }
        self.slots.raise_front(floors);
        self.floor = self.floor.max(until);
        self.last = self.last.max(until);
    }

    /// The last number that was lost to overflow, among those in front of what is held.
    #[must_use]
    pub fn loss_in_front(&self) -> u64 {
        self.slots.floors().of(RemovalReason::Overflow)
    }

    /// What two mailboxes share that were made from the same log, whatever sessions read them: for the state's digest.
    pub fn describe(&self, out: &mut Vec<u8>) {
        for slot in self.slots.iter() {
            let state = match slot.state {
                SlotState::Pending => 0,
                SlotState::Acked => 1,
                SlotState::Released | SlotState::Removed(_) => continue,
            };
            out.extend(slot.number.to_le_bytes());
            out.extend(slot.collapse_key.to_le_bytes());
            out.extend(slot.expires_at_s.to_le_bytes());
            out.extend(slot.bytes.to_le_bytes());
            out.extend([state, slot.priority as u8, u8::from(slot.volatile)]);
        }
    }

    /// Reads the places that a put changes, for [`super::shard::Shard::warm`]; the value means nothing.
    pub(super) fn glance(&self) -> u64 {
        let number = |slot: Option<&Slot>| slot.map_or(0, |slot| slot.number);
        number(self.slots.back()) ^ number(self.slots.front())
    }

    /// Whether evicting everything of the arrival's priority or lower would be enough.
    fn could_make_room(&self, arrival: &Arrival, replaced: Option<usize>, bounds: &Bounds) -> bool {
        let (count, bytes) = self.slots.pending_above(arrival.priority, replaced);
        count < bounds.max_count && bytes + u64::from(arrival.bytes) <= bounds.max_bytes
    }

    fn make_room(&mut self, arrival: &Arrival, bounds: &Bounds, effects: &mut Effects) {
        let fits = |slots: &Slots| {
            slots.pending() + slots.acked() < bounds.max_count
                && slots.pending_bytes() + slots.acked_bytes() + u64::from(arrival.bytes) <= bounds.max_bytes
        };
        while !fits(&self.slots) {
            let (index, reason) = match self.slots.oldest_acked() {
                Some(index) => (index, RemovalReason::Acked),
                None => (self.slots.oldest_of_lowest_priority(), RemovalReason::Overflow),
            };
            let number = self.slots[index].number;
            self.depends_on_oldest(number, effects);
            self.remove(index, reason, effects);
        }
    }

    /// Notes that the fate of `number` may be another one where the oldest notification is not known any more.
    fn depends_on_oldest(&self, number: u64, effects: &mut Effects) {
        if let Some(oldest) = self.oldest()
            && oldest < number
        {
            effects.dependencies.push((oldest, number));
        }
    }

    fn push(&mut self, arrival: &Arrival, recipient: u32, state: SlotState) {
        self.last_ordinal = self.last_ordinal.wrapping_add(1);
        self.slots.push_back(Slot {
            number: arrival.number,
            prev: self.last,
            collapse_key: arrival.collapse_key,
            expires_at_s: arrival.expires_at_s,
            ordinal: self.last_ordinal,
            bytes: arrival.bytes,
            recipient,
            next: 0,
            priority: arrival.priority,
            volatile: arrival.volatile,
            hole: None,
            state,
        });
        self.last = arrival.number;
        if self.origin == 0 {
            self.origin = arrival.number;
        }
        self.slots.tidy();
    }
}
