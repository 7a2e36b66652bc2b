//! A mailbox that forgets nothing: a list of all that ever came, each with its fate, walked from end to end every time.
//!
//! It knows the exact answer. Where the real mailbox may be vaguer, because it merges the holes between notifications that
//! are there, an expectation states how much vaguer: for a cursor inside a hole a count may be unknown and a reason graver
//! than the exact one. No count may be wrong, no reason milder, and what left in front of all that was there is told apart
//! exactly.

use crate::domain::{GapReason, OverflowPolicy, Priority, RemovalReason};
use crate::registry::mailbox::{Floors, Put, Readers};
use crate::registry::{Arrival, Bounds, Final, Item, PullLimits};

/// Everything that ever came to a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Model {
    came: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for its ack.
    Pending,
    /// It was acked and is part of the history.
    Acked,
    /// It was acked and is beyond the history; only a session that is behind it may keep it readable.
    Released,
    /// It is gone; `in_front` if nothing that came earlier was still there then.
    Gone { reason: RemovalReason, in_front: bool },
}

/// One notification that came.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) arrival: Arrival,
    pub(crate) fate: Fate,
    recipient: u32,
    /// It stands for all that came before the mailbox was made: nobody knows how many those were.
    forgotten: bool,
}

/// How far a session has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelCursor {
    /// Everything up to here is behind the session.
    pub(super) number: u64,
    /// It does not get volatile ones up to here.
    attached_at: u64,
    /// Whether the mailbox must know how many notifications are behind the session.
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
        let mut missing: Vec<(u64, RemovalReason)> =
            RemovalReason::ALL.into_iter().map(|reason| (floors.of(reason), reason)).collect();
        missing.sort_unstable();
        // Of several reasons for the same number the gravest counts.
        missing.reverse();
        missing.dedup_by_key(|(number, _)| *number);
        missing.reverse();
        let stands_for = |(number, reason)| Entry {
            arrival: Arrival {
                number,
                expires_at_s: 0,
                bytes: 0,
                priority: Priority::Normal,
                collapse_key: 0,
                volatile: false,
            },
            fate: Fate::Gone { reason, in_front: true },
            recipient: 0,
            forgotten: true,
        };
        Self { came: missing.into_iter().filter(|(number, _)| *number > 0).map(stands_for).collect() }
    }

    /// Everything that came, in order.
    pub(crate) fn came(&self) -> &[Entry] {
        &self.came
    }

    /// Takes a notification in, or not. What makes room: the one it collapses, acked ones oldest first, pending ones of the
    /// lowest priority oldest first but never of a higher one. Nothing is removed for a newcomer that is not kept.
    pub(crate) fn put(
        &mut self,
        arrival: &Arrival,
        recipient: u32,
        bounds: &Bounds,
        readers: Readers,
        finals: &mut Vec<Final>,
    ) -> Put {
        let replaced = self.indexes(|entry| entry.is_pending() && entry.has_key(arrival.collapse_key));
        let acked = self.indexes(|entry| entry.fate == Fate::Acked);
        let mut weakest = self.indexes(|entry| entry.is_pending() && entry.priority() <= arrival.priority);
        weakest.sort_by_key(|index| (self.came[*index].priority(), *index));
        weakest.retain(|index| !replaced.contains(index));

        let fits = |gone: &[usize], counts: fn(&Entry) -> bool| {
            let left = self.came.iter().enumerate();
            let left = left.filter(|(index, entry)| counts(entry) && !gone.contains(index));
            let (count, bytes) =
                left.fold((0, 0), |(count, bytes), (_, entry)| (count + 1, bytes + entry.bytes()));
            count < u64::from(bounds.max_count) && bytes + u64::from(arrival.bytes) <= bounds.max_bytes
        };
        if bounds.policy == OverflowPolicy::Reject && !fits(&replaced, Entry::is_pending) {
            return Put::Rejected;
        }
        let mut gone = replaced.clone();
        let mut candidates = acked.iter().chain(&weakest);
        while !fits(&gone, Entry::counts_in_the_bounds) {
            let Some(victim) = candidates.next() else {
                self.push(arrival, recipient);
                let newcomer = self.came.len() - 1;
                self.remove(&[newcomer], RemovalReason::Overflow, finals);
                return Put::Dropped;
            };
            gone.push(*victim);
        }
        let victims = gone.split_off(replaced.len());
        self.remove(&replaced, RemovalReason::Collapsed, finals);
        self.remove(&victims, RemovalReason::Overflow, finals);
        self.push(arrival, recipient);
        self.let_go(bounds, readers);
        Put::Kept
    }

    /// Acks what is pending in `(after, until]`.
    pub(crate) fn ack(
        &mut self,
        after: u64,
        until: u64,
        bounds: &Bounds,
        readers: Readers,
        finals: &mut Vec<Final>,
    ) {
        for entry in &mut self.came {
            if entry.is_pending() && after < entry.number() && entry.number() <= until {
                entry.fate = Fate::Acked;
                finals.push(entry.ends(RemovalReason::Acked));
            }
        }
        self.let_go(bounds, readers);
    }

    /// Removes what is due.
    pub(crate) fn expire(&mut self, log_time_s: u32, finals: &mut Vec<Final>) {
        let due = self.indexes(|entry| entry.is_there() && entry.arrival.expires_at_s <= log_time_s);
        self.remove(&due, RemovalReason::Expired, finals);
    }

    /// Takes one back, if it is pending.
    pub(crate) fn withdraw(&mut self, number: u64, finals: &mut Vec<Final>) {
        let found = self.indexes(|entry| entry.is_pending() && entry.number() == number);
        self.remove(&found, RemovalReason::Withdrawn, finals);
    }

    /// Drops everything up to `through`.
    pub(crate) fn give_up(&mut self, through: u64, finals: &mut Vec<Final>) {
        let given_up = self.indexes(|entry| entry.is_there() && entry.number() <= through);
        self.remove(&given_up, RemovalReason::Overflow, finals);
    }

    /// Withdraws everything.
    pub(crate) fn forget(&mut self, finals: &mut Vec<Final>) {
        let all = self.indexes(Entry::is_there);
        self.remove(&all, RemovalReason::Withdrawn, finals);
    }

    pub(super) fn pull(&self, cursor: &mut ModelCursor, limits: PullLimits) -> Vec<Expected> {
        let mut expected = Vec::new();
        let (mut frames, mut bytes) = (0, 0);
        let first = self.came.partition_point(|entry| entry.number() <= cursor.number);
        let mut hole = first..first;
        for (index, entry) in self.came.iter().enumerate().skip(first) {
            if !entry.is_readable_by(cursor.attached_at) {
                hole.end = index + 1;
                continue;
            }
            if frames == limits.frames || frames > 0 && bytes + entry.bytes() > limits.bytes {
                return expected;
            }
            expected.extend(self.gap(cursor, &self.came[hole]));
            hole = index + 1..index + 1;
            expected.push(Expected::Notification { number: entry.number(), prev: self.before(index) });
            *cursor = ModelCursor { number: entry.number(), counted: true, ..*cursor };
            frames += 1;
            bytes += entry.bytes();
        }
        expected.extend(self.gap(cursor, &self.came[hole]));
        expected
    }

    /// A cursor at any number of the log.
    ///
    /// The mailbox must know how many notifications came up to there, unless the number lies inside a hole. A hole reaches
    /// from the last notification in front of it that is there, or the first that ever came, to its last removed one.
    pub(super) fn cursor_after(&self, number: u64, attached_at: u64) -> ModelCursor {
        let behind = self.came.partition_point(|entry| entry.number() <= number);
        let hole_goes_on = self.came.get(behind).is_some_and(|next| !next.is_there());
        let at_an_end = self.came[..behind]
            .last()
            .is_none_or(|entry| entry.forgotten || (entry.is_there() && entry.number() == number));
        ModelCursor { number, attached_at, counted: at_an_end || !hole_goes_on }
    }

    /// The number in front of all that is there.
    pub(super) fn start(&self) -> Option<u64> {
        self.came.iter().position(Entry::is_there).map(|index| self.before(index))
    }

    /// The last number that came and below which everything is final; `None` if everything is.
    pub(crate) fn acked_position(&self) -> Option<u64> {
        self.came.iter().position(Entry::is_pending).map(|index| self.before(index))
    }

    pub(crate) fn last(&self) -> u64 {
        self.came.last().map_or(0, Entry::number)
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.came.iter().find(|entry| entry.is_there()).map(Entry::number)
    }

    /// The last number that is missing for this reason or a graver one, 0 if none is.
    pub(super) fn last_missing(&self, mildest: RemovalReason) -> u64 {
        let missing = |entry: &&Entry| entry.reason().is_some_and(|reason| reason >= mildest);
        self.came.iter().rev().find(missing).map_or(0, Entry::number)
    }

    pub(super) fn next_due_s(&self) -> Option<u32> {
        self.came.iter().filter(|entry| entry.is_there()).map(|entry| entry.arrival.expires_at_s).min()
    }

    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.came.iter().filter(|entry| entry.is_pending()).count()).unwrap()
    }

    pub(crate) fn history(&self) -> usize {
        self.came.iter().filter(|entry| entry.fate == Fate::Acked).count()
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.came.iter().filter(|entry| entry.is_pending()).map(Entry::bytes).sum()
    }

    /// What is pending and what is acked, as the real mailbox describes it for the digest.
    pub(crate) fn describe(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for Entry { arrival, fate, .. } in self.came.iter().filter(|entry| entry.counts_in_the_bounds()) {
            out.extend(arrival.number.to_le_bytes());
            out.extend(arrival.collapse_key.to_le_bytes());
            out.extend(arrival.expires_at_s.to_le_bytes());
            out.extend(arrival.bytes.to_le_bytes());
            let acked = u8::from(*fate == Fate::Acked);
            out.extend([acked, arrival.priority as u8, u8::from(arrival.volatile)]);
        }
        out
    }

    /// How many notifications the largest hole behind the oldest that is there covers.
    pub(super) fn largest_hole_behind_the_oldest(&self) -> usize {
        let oldest = self.came.iter().position(Entry::is_there).unwrap_or(self.came.len());
        self.came[oldest..].split(Entry::is_there).map(<[Entry]>::len).max().unwrap_or(0)
    }

    /// The number that came before the one at `index`.
    fn before(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.came[before].number())
    }

    fn indexes(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
        (0..self.came.len()).filter(|index| wanted(&self.came[*index])).collect()
    }

    fn push(&mut self, arrival: &Arrival, recipient: u32) {
        self.came.push(Entry { arrival: *arrival, fate: Fate::Pending, recipient, forgotten: false });
    }

    /// Removes these: pending ones end for `reason`, acked ones had ended before.
    fn remove(&mut self, victims: &[usize], reason: RemovalReason, finals: &mut Vec<Final>) {
        for victim in victims {
            let entry = &mut self.came[*victim];
            let reason = if entry.is_pending() { reason } else { RemovalReason::Acked };
            if entry.is_pending() {
                finals.push(entry.ends(reason));
            }
            entry.fate = Fate::Gone { reason, in_front: false };
        }
        let oldest = self.came.iter().position(Entry::is_there).unwrap_or(self.came.len());
        for victim in victims.iter().filter(|victim| **victim < oldest) {
            if let Fate::Gone { in_front, .. } = &mut self.came[*victim].fate {
                *in_front = true;
            }
        }
    }

    /// Keeps the last few acked ones as history; the ones beyond it for as long as a session is behind them and there is room.
    fn let_go(&mut self, bounds: &Bounds, readers: Readers) {
        let acked = self.indexes(|entry| entry.fate == Fate::Acked);
        for index in acked.iter().rev().skip(bounds.history as usize) {
            self.came[*index].fate = Fate::Released;
        }
        for index in self.indexes(|entry| entry.fate == Fate::Released) {
            let there = self.came.iter().filter(|entry| entry.is_there());
            let (count, bytes) =
                there.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.bytes()));
            let too_much = count > u64::from(bounds.max_count) || bytes > bounds.max_bytes;
            if too_much || self.came[index].number() <= readers.slowest {
                self.remove(&[index], RemovalReason::Acked, &mut Vec::new());
            }
        }
    }

    /// The one gap over `missing`, which came one after the other; moves the cursor behind it.
    fn gap(&self, cursor: &mut ModelCursor, missing: &[Entry]) -> Option<Expected> {
        let until = missing.last()?.number();
        let mildest = missing.iter().map(Entry::reason_to_miss).max()?;
        let end = self.came.partition_point(|entry| entry.number() <= until);
        let behind = self.came.partition_point(|entry| entry.number() <= cursor.number);
        // The hole that the cursor lies in begins behind the last one that is there.
        let start = self.came[..behind].iter().rposition(Entry::is_there).map_or(0, |there| there + 1);
        let told_apart = start == 0 && missing.iter().all(|entry| entry.left_in_front() || entry.is_there());
        let gravest = if told_apart {
            mildest
        } else {
            self.came[start..end].iter().map(Entry::reason_to_miss).max()?
        };
        let after = cursor.number;
        let count_ever_known = !missing.iter().any(|entry| entry.forgotten);
        let count = count_ever_known.then(|| u32::try_from(missing.len()).unwrap());
        let counted = cursor.counted && count_ever_known;
        *cursor = ModelCursor { number: until, counted: true, ..*cursor };
        let (mildest, gravest) = (mildest.into(), gravest.into());
        Some(Expected::Gap { after, until, count, counted, mildest, gravest })
    }
}

impl Entry {
    pub(crate) fn number(&self) -> u64 {
        self.arrival.number
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.fate == Fate::Pending
    }

    /// Whether a session that was attached at `attached_at` reads it.
    pub(crate) fn is_readable_by(&self, attached_at: u64) -> bool {
        self.is_there() && !(self.arrival.volatile && self.number() <= attached_at)
    }

    /// Why a session that does not read it is told of a gap.
    pub(crate) fn reason_to_miss(&self) -> RemovalReason {
        // What is there and cannot be read is volatile.
        self.reason().unwrap_or(RemovalReason::Expired)
    }

    fn bytes(&self) -> u64 {
        u64::from(self.arrival.bytes)
    }

    fn priority(&self) -> Priority {
        self.arrival.priority
    }

    fn has_key(&self, key: u64) -> bool {
        key != 0 && self.arrival.collapse_key == key
    }

    fn counts_in_the_bounds(&self) -> bool {
        matches!(self.fate, Fate::Pending | Fate::Acked)
    }

    fn is_there(&self) -> bool {
        !matches!(self.fate, Fate::Gone { .. })
    }

    fn reason(&self) -> Option<RemovalReason> {
        match self.fate {
            Fate::Gone { reason, .. } => Some(reason),
            _ => None,
        }
    }

    fn left_in_front(&self) -> bool {
        matches!(self.fate, Fate::Gone { in_front: true, .. })
    }

    fn ends(&self, reason: RemovalReason) -> Final {
        Final { number: self.number(), recipient: self.recipient, reason }
    }
}
