//! The slots of a mailbox: an ordered index with tombstones, and a list of pending slots for each priority.

use std::collections::VecDeque;
use std::ops::Index;

use super::Floors;
use crate::domain::{Priority, RemovalReason};

/// An index entry. Its size is a budget: 48 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) prev: u64,
    /// 0: none.
    pub(super) collapse_key: u64,
    pub(super) expires_at_s: u32,
    pub(super) ordinal: u32,
    pub(super) bytes: u32,
    /// The user's index among the notification's recipients.
    pub(super) recipient: u32,
    /// The absolute index of the next slot of the same priority; meaningless in the last one.
    pub(super) next: u32,
    pub(super) priority: Priority,
    /// Only for sessions that were attached when it came.
    pub(super) volatile: bool,
    /// The gravest reason among removed slots between the slot before and this one.
    pub(super) hole: Option<RemovalReason>,
    pub(super) state: SlotState,
}

const _: () = assert!(size_of::<Slot>() <= 48, "the budget of an index entry");

/// How far a slot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    /// It waits for its ack.
    Pending,
    /// It is part of the history.
    Acked,
    /// Acked and beyond the history; kept while a session of this node has not read it.
    Released,
    /// It is gone and only holds the place.
    Removed(RemovalReason),
}

impl Slot {
    /// Whether a session may read it.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.state, SlotState::Removed(_))
    }
}

/// Slots in order of number; the first and only the first is never a tombstone.
#[derive(Debug)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// The absolute index of `slots[0]`; wraps.
    first_index: u32,
    by_priority: [PriorityList; Priority::ALL.len()],
    pending: Sum,
    acked: Sum,
    released: Sum,
    /// Pending slots with a collapse key: nearly always none, and then nobody need look for one.
    with_key: u32,
    /// How far what was removed in front of the first slot reaches.
    front: Floors,
}

/// How many there are and how large their frames are.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u32,
    bytes: u64,
}

/// The pending slots of one priority, oldest first, linked by absolute index. May begin with slots that are not pending any
/// more.
#[derive(Debug, Clone, Copy, Default)]
struct PriorityList {
    head: u32,
    tail: u32,
    /// Linked slots, those included that are not pending any more.
    linked: u32,
    pending: Sum,
}

/// Slots that a mailbox keeps room for although it is empty.
const MIN_CAPACITY: usize = 4;

/// Tombstones tolerated before the slots are compacted, if they also outnumber the others.
const MIN_TOMBSTONES_TO_COMPACT: usize = 32;

impl Sum {
    fn add(&mut self, slot: &Slot) {
        self.count += 1;
        self.bytes += u64::from(slot.bytes);
    }

    fn subtract(&mut self, slot: &Slot) {
        self.count -= 1;
        self.bytes -= u64::from(slot.bytes);
    }
}

impl Slots {
    pub(super) fn new(front: Floors) -> Self {
        Self {
            slots: VecDeque::new(),
            first_index: 0,
            by_priority: Default::default(),
            pending: Sum::default(),
            acked: Sum::default(),
            released: Sum::default(),
            with_key: 0,
            front,
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots.iter()
    }

    pub(super) fn range(&self, from: usize) -> impl Iterator<Item = &Slot> {
        self.slots.range(from..)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    pub(super) fn front(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn back(&self) -> Option<&Slot> {
        self.slots.back()
    }

    pub(super) fn floors(&self) -> Floors {
        self.front
    }

    /// What was missing in front of the first slot; all of it came before.
    pub(super) fn raise_front(&mut self, floors: &Floors) {
        self.front.merge(floors);
        if let Some(first) = self.slots.front_mut() {
            first.prev = first.prev.max(floors.until());
        }
    }

    pub(super) fn pending(&self) -> u32 {
        self.pending.count
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending.bytes
    }

    pub(super) fn acked(&self) -> u32 {
        self.acked.count
    }

    pub(super) fn acked_bytes(&self) -> u64 {
        self.acked.bytes
    }

    pub(super) fn released(&self) -> u32 {
        self.released.count
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.pending.bytes + self.acked.bytes + self.released.bytes
    }

    /// The first index whose number is greater.
    pub(super) fn behind(&self, number: u64) -> usize {
        self.slots.partition_point(|slot| slot.number <= number)
    }

    /// The pending slot with this collapse key; there is at most one.
    pub(super) fn pending_with_key(&self, key: u64) -> Option<usize> {
        if key == 0 || self.with_key == 0 {
            return None;
        }
        self.slots.iter().rposition(|slot| slot.collapse_key == key && slot.state == SlotState::Pending)
    }

    /// How many would be pending without this one, and their bytes.
    pub(super) fn pending_without(&self, index: Option<usize>) -> (u32, u64) {
        let mut sum = self.pending;
        if let Some(index) = index {
            sum.subtract(&self.slots[index]);
        }
        (sum.count, sum.bytes)
    }

    /// How many of higher priority would be pending without this one, and their bytes.
    pub(super) fn pending_above(&self, priority: Priority, without: Option<usize>) -> (u32, u64) {
        let higher = &self.by_priority[priority as usize + 1..];
        let mut sum = Sum {
            count: higher.iter().map(|list| list.pending.count).sum(),
            bytes: higher.iter().map(|list| list.pending.bytes).sum(),
        };
        if let Some(index) = without
            && self.slots[index].priority > priority
        {
            sum.subtract(&self.slots[index]);
        }
        (sum.count, sum.bytes)
    }

    pub(super) fn oldest_acked(&self) -> Option<usize> {
        if self.acked.count == 0 {
            return None;
        }
        self.slots.iter().position(|slot| slot.state == SlotState::Acked)
    }

    /// What overflow evicts next. Something must be pending.
    pub(super) fn oldest_of_lowest_priority(&mut self) -> usize {
        let list = self.by_priority.iter_mut().find(|list| list.pending.count > 0);
        let list = list.expect("somebody is there to make room");
        loop {
            let index = list.head.wrapping_sub(self.first_index) as usize;
            if self.slots[index].state == SlotState::Pending {
                return index;
            }
            list.head = self.slots[index].next;
            list.linked -= 1;
        }
    }

    /// Appends a slot that is pending, or removed from the start.
    pub(super) fn push_back(&mut self, slot: Slot) {
        let length = u32::try_from(self.slots.len()).expect("bounded by max_count");
        let index = self.first_index.wrapping_add(length);
        if self.slots.capacity() == 0 {
            // Most users have one: left alone, the first one would reserve room for four.
            self.slots.reserve_exact(1);
        }
        self.slots.push_back(slot);
        if slot.state == SlotState::Pending {
            self.pending.add(&slot);
            self.with_key += u32::from(slot.collapse_key != 0);
            self.link(index, &slot);
        }
    }

    /// Moves a slot on; nothing ever becomes pending again. [`Slots::tidy`] is due afterwards.
    pub(super) fn advance(&mut self, index: usize, state: SlotState) {
        let slot = &mut self.slots[index];
        match std::mem::replace(&mut slot.state, state) {
            SlotState::Pending => {
                self.by_priority[slot.priority as usize].pending.subtract(slot);
                self.with_key -= u32::from(slot.collapse_key != 0);
                self.pending.subtract(slot);
            }
            SlotState::Acked => self.acked.subtract(slot),
            SlotState::Released => self.released.subtract(slot),
            SlotState::Removed(_) => {}
        }
        match state {
            SlotState::Acked => self.acked.add(slot),
            SlotState::Released => self.released.add(slot),
            SlotState::Pending | SlotState::Removed(_) => {}
        }
    }

    /// Moves tombstones in front into the floors, and compacts when those in between outnumber the others.
    pub(super) fn tidy(&mut self) {
        while let Some(slot) = self.slots.front().copied() {
            if let Some(reason) = slot.hole {
                self.front.raise(reason, slot.prev);
                self.slots[0].hole = None;
            }
            let SlotState::Removed(reason) = slot.state else { break };
            self.front.raise(reason, slot.number);
            self.slots.pop_front();
            let list = &mut self.by_priority[slot.priority as usize];
            if list.linked > 0 && list.head == self.first_index {
                list.head = slot.next;
                list.linked -= 1;
            }
            self.first_index = self.first_index.wrapping_add(1);
        }
        let held = (self.pending.count + self.acked.count + self.released.count) as usize;
        let tombstones = self.slots.len() - held;
        if tombstones > MIN_TOMBSTONES_TO_COMPACT && tombstones > held {
            self.compact();
        }
        // A mailbox that was full once must not stay large for ever.
        if self.slots.capacity() > MIN_CAPACITY && self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    fn link(&mut self, index: u32, slot: &Slot) {
        let list = &mut self.by_priority[slot.priority as usize];
        if list.linked == 0 {
            list.head = index;
        } else {
            let tail = list.tail.wrapping_sub(self.first_index) as usize;
            self.slots[tail].next = index;
        }
        list.tail = index;
        list.linked += 1;
        list.pending.add(slot);
    }

    /// Drops the tombstones: each one becomes the hole of the slot behind it, the last one stays if none follows.
    fn compact(&mut self) {
        let mut kept = VecDeque::with_capacity(self.slots.len() / 2 + 1);
        let mut carried: Option<RemovalReason> = None;
        let mut trailing: Option<Slot> = None;
        for mut slot in self.slots.drain(..) {
            carried = carried.max(slot.hole);
            if let SlotState::Removed(reason) = slot.state {
                carried = carried.max(Some(reason));
                trailing = Some(slot);
            } else {
                slot.hole = carried.take();
                trailing = None;
                kept.push_back(slot);
            }
        }
        if let (Some(mut slot), Some(reason)) = (trailing, carried) {
            slot.state = SlotState::Removed(reason);
            slot.hole = None;
            kept.push_back(slot);
        }
        self.slots = kept;
        self.first_index = 0;
        self.by_priority = Default::default();
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot.state == SlotState::Pending {
                self.link(u32::try_from(index).expect("bounded by max_count"), &slot);
            }
        }
    }
}

impl Index<usize> for Slots {
    type Output = Slot;

    fn index(&self, index: usize) -> &Slot {
        &self.slots[index]
    }
}
