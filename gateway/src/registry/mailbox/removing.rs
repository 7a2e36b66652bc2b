//! How notifications leave a mailbox: acks, expiry, withdrawal, giving up.

use super::slots::SlotState;
use super::{Bounds, Effects, Final, Mailbox};
use crate::domain::RemovalReason;

/// How far the user's sessions on this node have read; decides nothing but how long acked notifications beyond the history
/// stay readable here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// Everything up to this number is behind all of them.
    pub slowest: u64,
}

impl Readers {
    /// Nobody reads.
    pub const NONE: Self = Self { slowest: u64::MAX };
}

impl Mailbox {
    /// Acks what is pending in `(after, until]`.
    pub fn ack(&mut self, after: u64, until: u64, bounds: &Bounds, readers: Readers, effects: &mut Effects) {
        for index in self.slots.behind(after)..self.slots.behind(until) {
            let slot = self.slots[index];
            if slot.state == SlotState::Pending {
                effects.finals.push(Final {
                    number: slot.number,
                    recipient: slot.recipient,
                    reason: RemovalReason::Acked,
                });
                self.slots.advance(index, SlotState::Acked);
            }
        }
        self.let_go(bounds, readers);
    }

    /// Removes what is due.
    pub fn expire(&mut self, log_time_s: u32, effects: &mut Effects) {
        for index in 0..self.slots.len() {
            if self.slots[index].expires_at_s <= log_time_s {
                self.remove(index, RemovalReason::Expired, effects);
            }
        }
        self.slots.tidy();
    }

    /// Removes this one, if it is still pending.
    pub fn withdraw(&mut self, number: u64, effects: &mut Effects) {
        let behind = self.slots.behind(number);
        if let Some(index) = behind.checked_sub(1)
            && self.slots[index].number == number
            && self.slots[index].state == SlotState::Pending
        {
            self.remove(index, RemovalReason::Withdrawn, effects);
            self.slots.tidy();
        }
    }

    /// Drops everything up to `through`: the log gives it up.
    pub fn give_up(&mut self, through: u64, effects: &mut Effects) {
        self.clear(through, RemovalReason::Overflow, effects);
    }

    /// Withdraws everything: the user is forgotten.
    pub fn forget(&mut self, effects: &mut Effects) {
        self.clear(u64::MAX, RemovalReason::Withdrawn, effects);
    }

    /// Drops acked notifications beyond the history, as soon as no session of this node is behind them.
    pub(super) fn let_go(&mut self, bounds: &Bounds, readers: Readers) {
        let excess = self.slots.acked().saturating_sub(bounds.history);
        if excess > 0 {
            self.release(excess);
        }
        if self.slots.released() > 0 {
            self.drop_released(bounds, readers);
        }
        self.slots.tidy();
    }

    /// Takes the oldest `excess` acked ones out of the history.
    fn release(&mut self, excess: u32) {
        let mut left = excess;
        for index in 0..self.slots.len() {
            if left == 0 {
                break;
            }
            if self.slots[index].state == SlotState::Acked {
                self.slots.advance(index, SlotState::Released);
                left -= 1;
            }
        }
    }

    /// Drops released ones that every session has read, and the oldest beyond the bounds.
    fn drop_released(&mut self, bounds: &Bounds, readers: Readers) {
        for index in 0..self.slots.len() {
            let slot = self.slots[index];
            if slot.state != SlotState::Released {
                continue;
            }
            let held = self.slots.pending() + self.slots.acked() + self.slots.released();
            let too_much = held > bounds.max_count || self.slots.held_bytes() > bounds.max_bytes;
            if !too_much && slot.number > readers.slowest {
                break;
            }
            self.slots.advance(index, SlotState::Removed(RemovalReason::Acked));
        }
    }

    fn clear(&mut self, through: u64, reason: RemovalReason, effects: &mut Effects) {
        for index in 0..self.slots.behind(through) {
            self.remove(index, reason, effects);
        }
        self.slots.tidy();
    }

    /// Removes a slot: one that is pending becomes final for `reason`, an acked one was final already.
    pub(super) fn remove(&mut self, index: usize, reason: RemovalReason, effects: &mut Effects) {
        let slot = self.slots[index];
        match slot.state {
            SlotState::Pending => {
                effects.finals.push(Final { number: slot.number, recipient: slot.recipient, reason });
                self.slots.advance(index, SlotState::Removed(reason));
            }
            SlotState::Acked | SlotState::Released => {
                self.slots.advance(index, SlotState::Removed(RemovalReason::Acked));
            }
            SlotState::Removed(_) => {}
        }
    }
}
