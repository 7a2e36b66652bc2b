//! Reading a mailbox: cursors, pulls, and the gaps where something was removed.
//!
//! A cursor knows a number and, where it can be told, an ordinal; the difference of ordinals is how many notifications a
//! gap covers.

use super::{Floors, Mailbox};
use crate::domain::{GapReason, RemovalReason};

/// How far a session has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to this number is behind the session.
    pub number: u64,
    /// How many notifications that is, if it can be told.
    ordinal: Option<u32>,
}

/// What one pull may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// Notifications.
    pub frames: usize,
    /// Bytes of their frames; one notification comes even if it is larger.
    pub bytes: u64,
}

/// What a session gets, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A notification, to be fetched by number.
    Notification {
        /// Its place in the log.
        number: u64,
        /// The place of the one that came before it to this mailbox.
        prev: u64,
    },
    /// A range that is not there any more.
    Gap {
        /// The hole begins behind this number.
        after: u64,
        /// The last number of the hole.
        until: u64,
        /// How many notifications it covers, if it can be told.
        count: Option<u32>,
        /// The gravest reason among them.
        reason: GapReason,
    },
}

impl Mailbox {
    /// Appends what lies behind the cursor to `items`, gaps where the holes are, and moves the cursor.
    ///
    /// Returns whether the limits left something behind.
    pub fn pull(&self, cursor: &mut Cursor, limits: PullLimits, items: &mut impl Extend<Item>) -> bool {
        if cursor.number < self.origin || self.origin == 0 {
            // The session may have counted in a mailbox that was forgotten since.
            cursor.ordinal = self.ordinal_at(cursor.number);
        }
        let mut hole = self.front_hole(cursor.number);
        let mut frames = 0;
        let mut bytes = 0;
        let start = self.slots.partition_point(|slot| slot.number <= cursor.number);
        for slot in self.slots.range(start..) {
            if let Some(reason) = slot.hole
                && slot.prev > cursor.number
            {
                widen(&mut hole, slot.prev, reason);
            }
            if let Some(reason) = slot.removed {
                widen(&mut hole, slot.number, reason);
                continue;
            }
            if frames == limits.frames || (frames > 0 && bytes + u64::from(slot.bytes) > limits.bytes) {
                return true;
            }
            if let Some(hole) = hole.take() {
                items.extend([gap(cursor, hole, slot.ordinal.wrapping_sub(1))]);
            }
            items.extend([Item::Notification { number: slot.number, prev: slot.prev }]);
            *cursor = Cursor { number: slot.number, ordinal: Some(slot.ordinal) };
            frames += 1;
            bytes += u64::from(slot.bytes);
        }
        if let Some(hole) = hole {
            items.extend([gap(cursor, hole, self.last_ordinal)]);
        }
        false
    }

    /// A cursor behind `number`.
    #[must_use]
    pub fn cursor_after(&self, number: u64) -> Cursor {
        Cursor { number, ordinal: self.ordinal_at(number) }
    }

    /// A cursor in front of the oldest notification that waits; behind everything if none does.
    #[must_use]
    pub fn cursor_at_start(&self) -> Option<Cursor> {
        let first = self.slots.front()?;
        Some(Cursor { number: first.prev, ordinal: Some(first.ordinal.wrapping_sub(1)) })
    }

    fn front_hole(&self, after: u64) -> Option<(u64, RemovalReason)> {
        let Floors { benign, loss } = self.front;
        let until = benign.max(loss);
        let reason = if after < loss { RemovalReason::Overflow } else { RemovalReason::Expired };
        (after < until).then_some((until, reason))
    }

    /// How many notifications came up to `number`, if the mailbox can still tell.
    fn ordinal_at(&self, number: u64) -> Option<u32> {
        if number >= self.last {
            return Some(self.last_ordinal);
        }
        let next = self.slots.partition_point(|slot| slot.number <= number);
        if let Some(slot) = self.slots.get(next)
            && slot.prev <= number
        {
            return Some(slot.ordinal.wrapping_sub(1));
        }
        if next > 0 && self.slots[next - 1].number == number {
            return Some(self.slots[next - 1].ordinal);
        }
        // In front of the very first one, if nothing was forgotten behind that place.
        (self.floor <= number && number < self.origin).then_some(0)
    }
}

fn widen(hole: &mut Option<(u64, RemovalReason)>, until: u64, reason: RemovalReason) {
    *hole = Some(hole.map_or((until, reason), |(_, graver)| (until, graver.max(reason))));
}

/// The gap from the cursor over `hole`, whose last notification has `ordinal`; moves the cursor behind it.
fn gap(cursor: &mut Cursor, (until, reason): (u64, RemovalReason), ordinal: u32) -> Item {
    let item = Item::Gap {
        after: cursor.number,
        until,
        count: cursor.ordinal.map(|known| ordinal.wrapping_sub(known)),
        reason: reason.into(),
    };
    *cursor = Cursor { number: until, ordinal: Some(ordinal) };
    item
}
