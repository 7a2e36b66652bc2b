//! A mailbox that forgets nothing: a list of all that ever came, each with its fate, walked from end to end every time.
//!
//! It knows the exact answer. Where the real mailbox may be vaguer, because it merges the holes between waiting
//! notifications, an expectation states how much vaguer: for a cursor inside a hole a count may be unknown and a reason
//! graver than the exact one. No count may be wrong, no reason milder, and what left in front of all that waited is told
//! apart exactly.

use crate::domain::{GapReason, Priority};
use crate::registry::mailbox::{Floors, Put};
use crate::registry::{Arrival, Bounds, Item, OverflowPolicy, PullLimits};

/// Everything that ever came to a mailbox.
#[derive(Debug)]
pub(super) struct Model {
    came: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// It was removed; `in_front` if nothing that came earlier was still waiting then.
    Removed {
        reason: GapReason,
        in_front: bool,
    },
}

#[derive(Debug)]
struct Entry {
    number: u64,
    expires_at_ms: u64,
    bytes: u64,
    priority: Priority,
    fate: Fate,
    /// It stands for all that came before the mailbox was made: nobody knows how many those were.
    forgotten: bool,
}

/// How far a session has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelCursor {
    /// Everything up to here is behind the session.
    pub(super) number: u64,
    /// Whether the mailbox must know how many notifications that is.
    counted: bool,
}

/// What a pull must return.
#[derive(Debug)]
pub(super) enum Expected {
    Notification { number: u64, prev: u64 },
    Gap { after: u64, until: u64, count: Option<u32>, counted: bool, mildest: GapReason, gravest: GapReason },
}

impl Expected {
    /// Whether the real mailbox may answer so.
    pub(super) fn allows(&self, item: &Item) -> bool {
        match (self, item) {
            (Self::Notification { number, prev }, Item::Notification { number: got, prev: got_prev }) => {
                (number, prev) == (got, got_prev)
            }
            (
                Self::Gap { after, until, count, counted, mildest, gravest },
                Item::Gap { after: got_after, until: got_until, count: got_count, reason },
            ) => {
                (after, until) == (got_after, got_until)
                    && (got_count == count || got_count.is_none() && !counted)
                    && (mildest..=gravest).contains(&reason)
            }
            _ => false,
        }
    }
}

impl Model {
    /// The mailbox of a user who may have been forgotten before.
    pub(super) fn new(floors: Floors) -> Self {
        let floor = |number, reason| Entry {
            number,
            expires_at_ms: 0,
            bytes: 0,
            priority: Priority::Normal,
            fate: Fate::Removed { reason, in_front: true },
            forgotten: true,
        };
        let mut came = Vec::new();
        if floors.loss > 0 {
            came.push(floor(floors.loss, GapReason::Overflow));
        }
        if floors.benign > floors.loss {
            came.push(floor(floors.benign, GapReason::Expired));
        }
        Self { came }
    }

    pub(super) fn put(&mut self, arrival: &Arrival, bounds: &Bounds) -> Put {
        let bytes = u64::from(arrival.bytes);
        let (mut count, mut held) = (self.pending(), self.pending_bytes());
        let mut victims = Vec::new();
        let mut candidates = self.evictable_for(arrival.priority).into_iter();
        while count + 1 > bounds.max_count || held + bytes > bounds.max_bytes {
            if bounds.policy == OverflowPolicy::Reject {
                return Put::Rejected;
            }
            let Some(victim) = candidates.next() else {
                self.push(arrival);
                self.remove(&[self.came.len() - 1], GapReason::Overflow);
                return Put::Dropped;
            };
            count -= 1;
            held -= self.came[victim].bytes;
            victims.push(victim);
        }
        self.remove(&victims, GapReason::Overflow);
        self.push(arrival);
        Put::Kept { evicted: u32::try_from(victims.len()).unwrap() }
    }

    pub(super) fn expire(&mut self, log_time_ms: u64) -> u32 {
        let due = self.indexes(|entry| entry.waits() && entry.expires_at_ms <= log_time_ms);
        self.remove(&due, GapReason::Expired);
        u32::try_from(due.len()).unwrap()
    }

    pub(super) fn pull(&self, cursor: &mut ModelCursor, limits: PullLimits) -> Vec<Expected> {
        let mut expected = Vec::new();
        let (mut frames, mut bytes) = (0, 0);
        let first = self.came.partition_point(|entry| entry.number <= cursor.number);
        let mut hole = first..first;
        for (index, entry) in self.came.iter().enumerate().skip(first) {
            if !entry.waits() {
                hole.end = index + 1;
                continue;
            }
            if frames > 0 && (frames == limits.frames || bytes + entry.bytes > limits.bytes) {
                return expected;
            }
            expected.extend(self.gap(cursor, &self.came[hole]));
            hole = index + 1..index + 1;
            let prev = index.checked_sub(1).map_or(0, |before| self.came[before].number);
            expected.push(Expected::Notification { number: entry.number, prev });
            *cursor = ModelCursor { number: entry.number, counted: true };
            frames += 1;
            bytes += entry.bytes;
        }
        expected.extend(self.gap(cursor, &self.came[hole]));
        expected
    }

    /// A cursor at any number of the log.
    ///
    /// The mailbox must know how many notifications came up to there, unless the number lies inside a hole. A hole reaches
    /// from the last waiting notification in front of it, or the first that ever came, to its last removed one.
    pub(super) fn cursor_after(&self, number: u64) -> ModelCursor {
        let behind = self.came.partition_point(|entry| entry.number <= number);
        let hole_goes_on = self.came.get(behind).is_some_and(|next| !next.waits());
        let at_an_end = self.came[..behind]
            .last()
            .is_none_or(|entry| entry.forgotten || (entry.waits() && entry.number == number));
        ModelCursor { number, counted: at_an_end || !hole_goes_on }
    }

    pub(super) fn last(&self) -> u64 {
        self.came.last().map_or(0, |entry| entry.number)
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting().map(|entry| entry.number).next()
    }

    /// The last number that was lost rather than outdated, 0 if nothing was.
    pub(super) fn last_loss(&self) -> u64 {
        let lost = self.came.iter().rev().find(|entry| entry.reason() == Some(GapReason::Overflow));
        lost.map_or(0, |entry| entry.number)
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.waiting().map(|entry| entry.expires_at_ms).min()
    }

    pub(super) fn pending(&self) -> u32 {
        u32::try_from(self.waiting().count()).unwrap()
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.waiting().map(|entry| entry.bytes).sum()
    }

    /// How many notifications the largest hole behind a waiting notification covers.
    pub(super) fn largest_hole_behind_the_oldest(&self) -> usize {
        let waiting = self.came.iter().position(Entry::waits).unwrap_or(self.came.len());
        self.came[waiting..].split(Entry::waits).map(<[Entry]>::len).max().unwrap_or(0)
    }

    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.came.iter().filter(|entry| entry.waits())
    }

    fn indexes(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
        (0..self.came.len()).filter(|index| wanted(&self.came[*index])).collect()
    }

    /// What may make room for a newcomer of this priority, first to go first.
    fn evictable_for(&self, newcomer: Priority) -> Vec<usize> {
        let mut candidates = self.indexes(|entry| entry.waits() && entry.priority <= newcomer);
        candidates.sort_by_key(|index| (self.came[*index].priority, *index));
        candidates
    }

    fn push(&mut self, arrival: &Arrival) {
        self.came.push(Entry {
            number: arrival.number,
            expires_at_ms: arrival.expires_at_ms,
            bytes: u64::from(arrival.bytes),
            priority: arrival.priority,
            fate: Fate::Waiting,
            forgotten: false,
        });
    }

    fn remove(&mut self, victims: &[usize], reason: GapReason) {
        for victim in victims {
            self.came[*victim].fate = Fate::Removed { reason, in_front: false };
        }
        let oldest = self.came.iter().position(Entry::waits).unwrap_or(self.came.len());
        for victim in victims.iter().filter(|victim| **victim < oldest) {
            self.came[*victim].fate = Fate::Removed { reason, in_front: true };
        }
    }

    /// The one gap over `missing`, removed notifications that came one after the other; moves the cursor behind it.
    fn gap(&self, cursor: &mut ModelCursor, missing: &[Entry]) -> Option<Expected> {
        let until = missing.last()?.number;
        let mildest = missing.iter().filter_map(Entry::reason).max()?;
        let end = self.came.partition_point(|entry| entry.number <= until);
        let start = self.came[..end].iter().rposition(Entry::waits).map_or(0, |waiting| waiting + 1);
        let told_apart = start == 0 && missing.iter().all(Entry::left_in_front);
        let whole_hole = &self.came[start..end];
        let gravest = if told_apart { mildest } else { whole_hole.iter().filter_map(Entry::reason).max()? };
        let after = cursor.number;
        let count_ever_known = !missing.iter().any(|entry| entry.forgotten);
        let count = count_ever_known.then(|| u32::try_from(missing.len()).unwrap());
        let counted = cursor.counted && count_ever_known;
        *cursor = ModelCursor { number: until, counted: true };
        Some(Expected::Gap { after, until, count, counted, mildest, gravest })
    }
}

impl Entry {
    fn waits(&self) -> bool {
        self.fate == Fate::Waiting
    }

    fn reason(&self) -> Option<GapReason> {
        match self.fate {
            Fate::Waiting => None,
            Fate::Removed { reason, .. } => Some(reason),
        }
    }

    fn left_in_front(&self) -> bool {
        matches!(self.fate, Fate::Removed { in_front: true, .. })
    }
}

/// A receiver that follows the rule of the protocol and notices every hole that nobody announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// Everything up to here was received or announced as a gap.
    pub(super) position: u64,
}

impl Client {
    pub(super) fn receive(&mut self, item: &Item) -> Result<(), String> {
        let (fine, position) = match *item {
            Item::Notification { number, prev } => (prev <= self.position && self.position < number, number),
            Item::Gap { after, until, .. } => (after == self.position && after < until, until),
        };
        if !fine {
            return Err(format!("at {} the client got {item:?}", self.position));
        }
        self.position = position;
        Ok(())
    }
}
