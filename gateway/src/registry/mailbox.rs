//! A user's bounded, ordered queue: an index over the log.
//!
//! The mailbox holds no text, only where each notification stands in the log, in order. Sessions read it with cursors; what
//! was removed before a cursor reached it comes out as a gap. Invariants: `live` slots never exceed the bounds, every
//! removed notification is either a tombstone, the `hole` of the slot behind it, or part of a front run, and `ordinal`
//! counts every notification that ever came, so that a gap can say how many it covers.

mod reading;

use std::collections::VecDeque;

use crate::domain::{OverflowPolicy, Priority, RemovalReason};

pub use reading::{Cursor, Item, PullLimits};

/// How much a mailbox may hold and what happens beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Notifications waiting.
    pub max_count: u32,
    /// Bytes of their frames.
    pub max_bytes: u64,
    /// What happens when one more comes.
    pub policy: OverflowPolicy,
}

/// A notification on its way into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its place in the log; greater than any before.
    pub number: u64,
    /// When it is due, in log time.
    pub expires_at_ms: u64,
    /// The size of its frame's body.
    pub bytes: u32,
    /// What overflow evicts first.
    pub priority: Priority,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It waits; `evicted` others had to go.
    Kept {
        /// How many made room.
        evicted: u32,
    },
    /// It lost to what was there: all of higher priority. Counted as overflow, announced as a gap.
    Dropped,
    /// Refused by policy; the mailbox never saw it.
    Rejected,
}

/// The highest number among forgotten mailboxes, by gravity: what a new mailbox must assume about its past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floors {
    /// Everything up to here may be missing because it expired.
    pub benign: u64,
    /// Everything up to here may be missing because it overflowed.
    pub loss: u64,
}

/// One user's queue.
#[derive(Debug)]
pub struct Mailbox {
    /// In order of number; the first and only the first is never a tombstone.
    slots: VecDeque<Slot>,
    /// The absolute index of `slots[0]`; wraps.
    first_index: u32,
    by_priority: [PriorityList; Priority::ALL.len()],
    live: u32,
    bytes: u64,
    /// The number and ordinal of the last notification that came.
    last: u64,
    last_ordinal: u32,
    /// How far what was removed in front of the first slot reaches.
    front: Floors,
    /// The number of the first notification that ever came, 0 before.
    origin: u64,
    /// Up to here the user may have been forgotten before this mailbox was made.
    floor: u64,
}

/// An index entry. Its size is a budget: 48 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u64,
    prev: u64,
    expires_at_ms: u64,
    ordinal: u32,
    bytes: u32,
    /// The absolute index of the next slot of the same priority; meaningless in the last one.
    next: u32,
    priority: Priority,
    /// The gravest reason among removed slots between the slot before and this one.
    hole: Option<RemovalReason>,
    /// Set when it was removed and only holds the place.
    removed: Option<RemovalReason>,
}

const _: () = assert!(size_of::<Slot>() <= 48, "the budget of an index entry");

/// The slots of one priority, oldest first, linked by absolute index. May begin with slots that were removed meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct PriorityList {
    head: u32,
    tail: u32,
    /// Linked slots, removed ones included.
    linked: u32,
    live: u32,
    bytes: u64,
}

/// Slots that a mailbox keeps room for although it is empty.
const MIN_CAPACITY: usize = 4;

/// Tombstones tolerated before the slots are compacted, if they also outnumber the live ones.
const MIN_TOMBSTONES_TO_COMPACT: usize = 32;

impl Mailbox {
    /// An empty mailbox of a user who may have been forgotten before.
    #[must_use]
    pub fn new(floors: Floors) -> Self {
        Self {
            slots: VecDeque::new(),
            first_index: 0,
            by_priority: Default::default(),
            live: 0,
            bytes: 0,
            last: floors.loss.max(floors.benign),
            last_ordinal: 0,
            front: floors,
            origin: 0,
            floor: floors.loss.max(floors.benign),
        }
    }

    /// Takes a notification in, under the overflow policy.
    pub fn put(&mut self, arrival: &Arrival, bounds: &Bounds) -> Put {
        debug_assert!(arrival.number > self.last, "numbers grow");
        if self.fits(arrival, bounds) {
            self.push(arrival, None);
            return Put::Kept { evicted: 0 };
        }
        if bounds.policy == OverflowPolicy::Reject {
            return Put::Rejected;
        }
        if !self.could_make_room(arrival, bounds) {
            self.push(arrival, Some(RemovalReason::Overflow));
            return Put::Dropped;
        }
        let mut evicted = 0;
        while !self.fits(arrival, bounds) {
            self.evict_oldest_of_lowest_priority();
            evicted += 1;
        }
        self.push(arrival, None);
        Put::Kept { evicted }
    }

    /// Removes what is due and returns how many that were.
    pub fn expire(&mut self, log_time_ms: u64) -> u32 {
        let mut expired = 0;
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot.removed.is_none() && slot.expires_at_ms <= log_time_ms {
                self.mark_removed(index, RemovalReason::Expired);
                expired += 1;
            }
        }
        self.tidy();
        expired
    }

    /// Drops everything up to `through` as overflow and returns how many that were.
    pub fn give_up(&mut self, through: u64) -> u32 {
        let mut given_up = 0;
        for index in 0..self.slots.partition_point(|slot| slot.number <= through) {
            if self.slots[index].removed.is_none() {
                self.mark_removed(index, RemovalReason::Overflow);
                given_up += 1;
            }
        }
        self.tidy();
        given_up
    }

    /// When the next notification is due, in log time.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.removed.is_none()).map(|slot| slot.expires_at_ms).min()
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

    /// The number of the oldest notification that waits.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.number)
    }

    /// Notifications that wait.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.live
    }

    /// Bytes of their frames.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.bytes
    }

    /// What is left to say about this mailbox once it is forgotten.
    #[must_use]
    pub fn floors(&self) -> Floors {
        self.front
    }

    /// Reads the places that a put changes, for [`super::shard::Shard::warm`]; the value means nothing.
    pub(super) fn glance(&self) -> u64 {
        self.slots.back().map_or(0, |slot| slot.number) ^ self.slots.front().map_or(0, |slot| slot.number)
    }

    fn fits(&self, arrival: &Arrival, bounds: &Bounds) -> bool {
        self.live < bounds.max_count && self.bytes + u64::from(arrival.bytes) <= bounds.max_bytes
    }

    /// Whether evicting everything of the arrival's priority or lower would be enough.
    fn could_make_room(&self, arrival: &Arrival, bounds: &Bounds) -> bool {
        let higher = &self.by_priority[arrival.priority as usize + 1..];
        let staying: u32 = higher.iter().map(|list| list.live).sum();
        let staying_bytes: u64 = higher.iter().map(|list| list.bytes).sum();
        staying < bounds.max_count && staying_bytes + u64::from(arrival.bytes) <= bounds.max_bytes
    }

    fn push(&mut self, arrival: &Arrival, removed: Option<RemovalReason>) {
        let index =
            self.first_index.wrapping_add(u32::try_from(self.slots.len()).expect("bounded by max_count"));
        self.slots.push_back(Slot {
            number: arrival.number,
            prev: self.last,
            expires_at_ms: arrival.expires_at_ms,
            ordinal: self.last_ordinal.wrapping_add(1),
            bytes: arrival.bytes,
            next: 0,
            priority: arrival.priority,
            hole: None,
            removed,
        });
        self.last = arrival.number;
        self.last_ordinal = self.last_ordinal.wrapping_add(1);
        if self.origin == 0 {
            self.origin = arrival.number;
        }
        if removed.is_none() {
            self.live += 1;
            self.bytes += u64::from(arrival.bytes);
            self.link(index, arrival.priority, arrival.bytes);
        }
        self.tidy();
    }

    fn link(&mut self, index: u32, priority: Priority, bytes: u32) {
        let list = &mut self.by_priority[priority as usize];
        if list.linked == 0 {
            list.head = index;
        } else {
            let tail = list.tail.wrapping_sub(self.first_index) as usize;
            self.slots[tail].next = index;
        }
        list.tail = index;
        list.linked += 1;
        list.live += 1;
        list.bytes += u64::from(bytes);
    }

    fn evict_oldest_of_lowest_priority(&mut self) {
        let lowest =
            self.by_priority.iter().position(|list| list.live > 0).expect("somebody is there to make room");
        loop {
            let list = &mut self.by_priority[lowest];
            let index = list.head.wrapping_sub(self.first_index) as usize;
            list.head = self.slots[index].next;
            list.linked -= 1;
            if self.slots[index].removed.is_none() {
                self.mark_removed(index, RemovalReason::Overflow);
                break;
            }
        }
        self.tidy();
    }

    fn mark_removed(&mut self, index: usize, reason: RemovalReason) {
        let slot = &mut self.slots[index];
        slot.removed = Some(reason);
        let list = &mut self.by_priority[slot.priority as usize];
        list.live -= 1;
        list.bytes -= u64::from(slot.bytes);
        self.live -= 1;
        self.bytes -= u64::from(slot.bytes);
    }

    /// Moves tombstones in front into the runs, and compacts when those in between outnumber the live.
    fn tidy(&mut self) {
        while let Some(slot) = self.slots.front().copied() {
            if let Some(reason) = slot.hole {
                self.remember_in_front(slot.prev, reason);
                self.slots[0].hole = None;
            }
            let Some(reason) = slot.removed else { break };
            self.remember_in_front(slot.number, reason);
            self.slots.pop_front();
            let list = &mut self.by_priority[slot.priority as usize];
            if list.linked > 0 && list.head == self.first_index {
                list.head = slot.next;
                list.linked -= 1;
            }
            self.first_index = self.first_index.wrapping_add(1);
        }
        let live = self.live as usize;
        let tombstones = self.slots.len() - live;
        if tombstones > MIN_TOMBSTONES_TO_COMPACT && tombstones > live {
            self.compact();
        }
        // A mailbox that was full once must not stay large for ever.
        if self.slots.capacity() > MIN_CAPACITY && self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    fn remember_in_front(&mut self, until: u64, reason: RemovalReason) {
        match reason {
            RemovalReason::Expired => self.front.benign = until,
            RemovalReason::Overflow => self.front.loss = until,
        }
    }

    /// Drops the tombstones: each one becomes the hole of the live slot behind it, the last one stays if none follows.
    fn compact(&mut self) {
        let mut kept = VecDeque::with_capacity(self.live as usize + 1);
        let mut carried: Option<RemovalReason> = None;
        let mut trailing: Option<Slot> = None;
        for mut slot in self.slots.drain(..) {
            carried = carried.max(slot.hole);
            if slot.removed.is_some() {
                carried = carried.max(slot.removed);
                trailing = Some(slot);
            } else {
                slot.hole = carried.take();
                trailing = None;
                kept.push_back(slot);
            }
        }
        if let Some(mut slot) = trailing {
            slot.removed = carried;
            slot.hole = None;
            kept.push_back(slot);
        }
        self.slots = kept;
        self.first_index = 0;
        self.by_priority = Default::default();
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot.removed.is_none() {
                self.link(u32::try_from(index).expect("bounded by max_count"), slot.priority, slot.bytes);
            }
        }
    }
}
