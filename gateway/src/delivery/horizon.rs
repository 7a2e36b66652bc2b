//! How much of the log may go: what a restart from the rest must still know.
//!
//! Dropping a prefix must not change what the rest means. Two things hold it back. A notification *matters* until it has
//! expired and nobody may ask for its outcome or repeat its request any more. And the fate of one entry may *depend* on an
//! earlier one: who was evicted or refused because of what was there, a repeated request on the first, a topic's
//! notification on the memberships of before. Where the later one stays, the earlier one has to stay.
//!
//! That could go on for ever: an absent user whose mailbox is always full makes one chain of all that is sent. So the second
//! rule yields after a day to a weaker one: what still matters keeps what it depended on. A restart may then decide anew
//! about notifications that are long over, and a full mailbox may lose another one for it; that is announced like any other
//! overflow. Where full mailboxes refuse, it never yields: a refusal leaves no trace in the mailbox, and who was refused must
//! stay so. Then only the disk bounds the log.

use std::collections::VecDeque;

/// Entries that share a checkpoint at most.
const MAX_CHECKPOINT_ENTRIES: u64 = 65_536;

/// Seconds of log time that share a checkpoint.
const CHECKPOINT_SECONDS: u32 = 60;

/// How much more than needed the log keeps, in seconds of log time, before the weaker rule holds.
const MAX_HELD_SECONDS: u32 = 86_400;

/// Dependencies that are kept apart; beyond it neighbours are merged, which only keeps more of the log.
const MAX_DEPENDENCIES: usize = 1_024;

/// What is known about which part of the log is needed.
#[derive(Debug)]
pub struct Horizon {
    checkpoints: VecDeque<Checkpoint>,
    /// In order, not overlapping: where the first number is gone, the second one must be gone too.
    dependencies: Vec<(u64, u64)>,
    /// The earliest number that the entry being applied depends on.
    depends_on: Option<u64>,
    /// How much more than needed is kept before the weaker rule holds, in seconds of log time.
    max_held_s: u32,
}

/// A stretch of the log.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    since_s: u32,
    first: u64,
    last: u64,
    /// Nothing in it matters from this log time on.
    matters_until_s: u32,
    /// The earliest number that something decided in it depended on; `u64::MAX` if nothing did.
    depends_on: u64,
}

impl Default for Horizon {
    fn default() -> Self {
        Self {
            checkpoints: VecDeque::new(),
            dependencies: Vec::new(),
            depends_on: None,
            max_held_s: MAX_HELD_SECONDS,
        }
    }
}

impl Horizon {
    /// Notes that entry `number`, applied at `log_time_s`, matters until `matters_until_s`.
    ///
    /// What it depended on was noted before.
    pub fn note(&mut self, number: u64, log_time_s: u32, matters_until_s: u32) {
        let depends_on = self.depends_on.take().unwrap_or(u64::MAX);
        if let Some(current) = self.checkpoints.back_mut()
            && log_time_s < current.since_s.saturating_add(CHECKPOINT_SECONDS)
            && number - current.first < MAX_CHECKPOINT_ENTRIES
        {
            current.last = number;
            current.matters_until_s = current.matters_until_s.max(matters_until_s);
            current.depends_on = current.depends_on.min(depends_on);
            return;
        }
        self.checkpoints.push_back(Checkpoint {
            since_s: log_time_s,
            first: number,
            last: number,
            matters_until_s,
            depends_on,
        });
    }

    /// Notes that what became of `later` depended on `earlier`.
    pub fn depends(&mut self, earlier: u64, later: u64) {
        if earlier >= later {
            return;
        }
        self.depends_on = Some(self.depends_on.map_or(earlier, |known| known.min(earlier)));
        let (mut earlier, mut later) = (earlier, later);
        // Overlapping ones are one: none of what lies between may be cut off.
        let from = self.dependencies.partition_point(|(_, end)| *end < earlier);
        let until = self.dependencies.partition_point(|(start, _)| *start <= later);
        for (start, end) in self.dependencies.drain(from..until) {
            earlier = earlier.min(start);
            later = later.max(end);
        }
        self.dependencies.insert(from, (earlier, later));
        if self.dependencies.len() > MAX_DEPENDENCIES {
            self.merge_closest();
        }
    }

    /// The last number, at most `limit`, that may be dropped: nothing up to it matters, and nothing behind it depends on it.
    ///
    /// Not even what does not matter any more may have lost what it depended on: a notification that is refused because of
    /// an earlier one would be kept where that one is not known, and push out others that do matter.
    #[must_use]
    pub fn droppable(&self, log_time_s: u32, limit: u64, may_yield: bool) -> u64 {
        let past = self.checkpoints.iter().take_while(|stretch| stretch.matters_until_s <= log_time_s);
        let unneeded = past.last().map_or(0, |stretch| stretch.last).min(limit);
        let mut through = unneeded;
        for (earlier, later) in self.dependencies.iter().rev() {
            if *earlier <= through && *later > through {
                through = earlier.saturating_sub(1);
            }
        }
        let weaker = self.droppable_by_the_weaker_rule(unneeded);
        let held_s = self.since_s(weaker).saturating_sub(self.since_s(through));
        if may_yield && held_s > self.max_held_s { weaker } else { through }
    }

    /// The last number, at most `unneeded`, on which nothing depends that still matters.
    fn droppable_by_the_weaker_rule(&self, unneeded: u64) -> u64 {
        let needed = self.checkpoints.iter().rev().take_while(|stretch| stretch.last > unneeded);
        let depends_on = needed.map(|stretch| stretch.depends_on).min().unwrap_or(u64::MAX);
        unneeded.min(depends_on.saturating_sub(1))
    }

    /// When the entry behind `number` was applied, roughly.
    fn since_s(&self, number: u64) -> u32 {
        let behind = self.checkpoints.partition_point(|stretch| stretch.last <= number);
        self.checkpoints.get(behind).map_or(u32::MAX, |stretch| stretch.since_s)
    }

    /// Forgets about what was dropped.
    pub fn dropped(&mut self, through: u64) {
        while self.checkpoints.front().is_some_and(|stretch| stretch.last <= through) {
            self.checkpoints.pop_front();
        }
        self.dependencies.retain(|(_, later)| *later > through);
        if let Some((earlier, _)) = self.dependencies.first_mut() {
            // By the weaker rule a chain may be cut; what is left of it still holds together.
            *earlier = (*earlier).max(through + 1);
        }
    }

    /// As if no entry depended on another: what tests of truncation must notice.
    #[cfg(test)]
    pub(super) fn forget_dependencies(&mut self) {
        self.dependencies.clear();
        for stretch in &mut self.checkpoints {
            stretch.depends_on = u64::MAX;
        }
    }

    /// The stronger rule never yields.
    #[cfg(test)]
    pub(super) fn never_yield(&mut self) {
        self.max_held_s = u32::MAX;
    }

    fn merge_closest(&mut self) {
        let pairs = self.dependencies.windows(2).enumerate();
        let closest = pairs.min_by_key(|(_, pair)| pair[1].0 - pair[0].1).map(|(index, _)| index);
        if let Some(index) = closest {
            let (_, later) = self.dependencies.remove(index + 1);
            self.dependencies[index].1 = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_before_all_of_it_stopped_to_matter() {
        let mut horizon = Horizon::default();
        horizon.note(1, 0, 100);
        horizon.note(2, 10, 50);
        horizon.note(3, 70, 90);
        horizon.note(4, 200, 300);
        assert_eq!(horizon.droppable(99, u64::MAX, true), 0, "the first stretch still matters");
        assert_eq!(horizon.droppable(100, u64::MAX, true), 3);
        assert_eq!(horizon.droppable(300, u64::MAX, true), 4);
    }

    #[test]
    fn what_a_later_entry_depends_on_stays_while_that_one_matters() {
        let mut horizon = Horizon::default();
        for number in 1..=10 {
            horizon.note(
                number,
                u32::try_from(number).unwrap() * 100,
                u32::try_from(number).unwrap() * 100 + 50,
            );
        }
        horizon.depends(3, 7);
        assert_eq!(horizon.droppable(550, u64::MAX, true), 2, "7 matters and depends on 3");
        assert_eq!(horizon.droppable(750, u64::MAX, true), 7, "7 does not matter any more");
        assert_eq!(horizon.droppable(750, 5, true), 2, "5 stays, and may have depended on 3 as well");
        horizon.depends(2, 3);
        assert_eq!(horizon.droppable(550, u64::MAX, true), 1, "a chain holds as a whole");
        horizon.dropped(7);
        assert_eq!(horizon.droppable(950, u64::MAX, true), 9);
    }

    #[test]
    fn a_chain_without_end_is_cut_after_a_day() {
        const MINUTES: u64 = 10 * 24 * 60;
        const HOURS_MATTERED: u64 = 24;
        let mut horizon = Horizon::default();
        let mut dropped = 0;
        for number in 1..=MINUTES {
            let log_time_s = u32::try_from(number * 60).unwrap();
            // Each one is refused because of what came an hour before.
            horizon.depends(number.saturating_sub(60).max(1), number);
            horizon.note(number, log_time_s, log_time_s + u32::try_from(HOURS_MATTERED * 3_600).unwrap());
            let through = horizon.droppable(log_time_s, u64::MAX, true);
            assert!(
                through >= dropped && number - dropped <= (HOURS_MATTERED + 24 + 2) * 60,
                "{number} {dropped}"
            );
            assert!(
                through <= number.saturating_sub(HOURS_MATTERED * 60 + 60),
                "what matters keeps its reasons"
            );
            if through > dropped {
                horizon.dropped(through);
                dropped = through;
            }
        }
        assert!(dropped > 7 * 24 * 60);
        assert!(horizon.dependencies.len() <= 1 && horizon.checkpoints.len() < 60 * 60);
    }

    #[test]
    fn dependencies_stay_few_and_only_grow() {
        let mut horizon = Horizon::default();
        for index in 0..10_000_u64 {
            horizon.depends(index * 10 + 1, index * 10 + 4);
        }
        assert!(horizon.dependencies.len() <= MAX_DEPENDENCIES);
        assert!(horizon.dependencies.is_sorted());
        for index in 0..10_000_u64 {
            let (earlier, later) = (index * 10 + 1, index * 10 + 4);
            assert!(horizon.dependencies.iter().any(|(start, end)| *start <= earlier && *end >= later));
        }
    }
}
