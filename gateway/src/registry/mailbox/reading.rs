//! Reading a mailbox: cursors, pulls, and the gaps where something was removed.
//!
//! A cursor knows a number and, where it can be told, an ordinal; the difference of ordinals is how many notifications a
//! gap covers.

use super::Mailbox;
use super::slots::{Slot, SlotState};
use crate::domain::{GapReason, RemovalReason};

/// How far a session has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to this number is behind the session.
    pub number: u64,
    /// How many notifications that is, if it can be told.
    ordinal: Option<u32>,
    /// The session was attached when everything up to this number had come: it does not get volatile ones among them.
    attached_at: u64,
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
        let floors = self.slots.floors();
        let front = floors.gravest_behind(cursor.number).map(|reason| (floors.until(), reason));
        let mut hole = front;
        let mut frames = 0;
        let mut bytes = 0;
        for slot in self.slots.range(self.slots.behind(cursor.number)) {
            if let Some(reason) = slot.hole
                && slot.prev > cursor.number
            {
                widen(&mut hole, slot.prev, reason);
            }
            if let Some(reason) = missing(slot, cursor.attached_at) {
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
            *cursor = Cursor { number: slot.number, ordinal: Some(slot.ordinal), ..*cursor };
            frames += 1;
            bytes += u64::from(slot.bytes);
        }
        if let Some(hole) = hole {
            items.extend([gap(cursor, hole, self.last_ordinal)]);
        }
        false
    }

    /// A cursor behind `number`, of a session that was attached at `attached_at`.
    #[must_use]
    pub fn cursor_after(&self, number: u64, attached_at: u64) -> Cursor {
        Cursor { number, ordinal: self.ordinal_at(number), attached_at }
    }

    /// A cursor in front of the oldest notification that is held, if one is.
    #[must_use]
    pub fn cursor_at_start(&self, attached_at: u64) -> Option<Cursor> {
        let first = self.slots.front()?;
        Some(Cursor { number: first.prev, ordinal: Some(first.ordinal.wrapping_sub(1)), attached_at })
    }

    /// A cursor behind the last number below which everything is final; `None` if nothing is pending.
    #[must_use]
    pub fn cursor_at_acked(&self, attached_at: u64) -> Option<Cursor> {
        let first = self.slots.iter().find(|slot| slot.state == SlotState::Pending)?;
        Some(Cursor { number: first.prev, ordinal: Some(first.ordinal.wrapping_sub(1)), attached_at })
    }

    /// How many notifications came up to `number`, if the mailbox can still tell.
    fn ordinal_at(&self, number: u64) -> Option<u32> {
        if number < self.floor {
            return None;
        }
        if number >= self.last {
            return Some(self.last_ordinal);
        }
        let next = self.slots.behind(number);
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

/// Why this session cannot read a slot, if it cannot.
fn missing(slot: &Slot, attached_at: u64) -> Option<RemovalReason> {
    match slot.state {
        SlotState::Removed(reason) => Some(reason),
        _ if slot.volatile && slot.number <= attached_at => Some(RemovalReason::Expired),
        _ => None,
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
    *cursor = Cursor { number: until, ordinal: Some(ordinal), ..*cursor };
    item
}
