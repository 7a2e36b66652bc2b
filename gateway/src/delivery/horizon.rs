//! How much of the log may go: what a restart from the rest must still know.
//!
//! Dropping a prefix must not change what the rest means. Two things hold it back. A notification *matters* until it has
//! expired and nobody may ask for its outcome or repeat its request any more. And the fate of one entry may *depend* on an
//! earlier one: who was evicted or refused because of what was there, a repeated request on the first, a topic's
//! notification on the memberships of before. Where the later one stays, the earlier one has to stay.

use std::collections::VecDeque;

/// Entries that share a checkpoint at most.
const MAX_CHECKPOINT_ENTRIES: u64 = 65_536;

/// Seconds of log time that share a checkpoint.
const CHECKPOINT_SECONDS: u32 = 60;

/// Dependencies that are kept apart; beyond it neighbours are merged, which only keeps more of the log.
const MAX_DEPENDENCIES: usize = 1_024;

/// What is known about which part of the log is needed.
#[derive(Debug, Default)]
pub struct Horizon {
    checkpoints: VecDeque<Checkpoint>,
    /// In order, not overlapping: where the first number is gone, the second one must be gone too.
    dependencies: Vec<(u64, u64)>,
}

/// A stretch of the log.
#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    since_s: u32,
    first: u64,
    last: u64,
    /// Nothing in it matters from this log time on.
    matters_until_s: u32,
}

impl Horizon {
    /// Notes that entry `number`, applied at `log_time_s`, matters until `matters_until_s`.
    pub fn note(&mut self, number: u64, log_time_s: u32, matters_until_s: u32) {
        if let Some(current) = self.checkpoints.back_mut()
            && log_time_s < current.since_s.saturating_add(CHECKPOINT_SECONDS)
            && number - current.first < MAX_CHECKPOINT_ENTRIES
        {
            current.last = number;
            current.matters_until_s = current.matters_until_s.max(matters_until_s);
            return;
        }
        self.checkpoints.push_back(Checkpoint {
            since_s: log_time_s,
            first: number,
            last: number,
            matters_until_s,
        });
    }

    /// Notes that what became of `later` depended on `earlier`.
    pub fn depends(&mut self, earlier: u64, later: u64) {
        if earlier >= later {
            return;
        }
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
    pub fn droppable(&self, log_time_s: u32, limit: u64) -> u64 {
        let past = self.checkpoints.iter().take_while(|stretch| stretch.matters_until_s <= log_time_s);
        let mut through = past.last().map_or(0, |stretch| stretch.last).min(limit);
        for (earlier, later) in self.dependencies.iter().rev() {
            if *earlier <= through && *later > through {
                through = earlier.saturating_sub(1);
            }
        }
        through
    }

    /// Forgets about what was dropped.
    pub fn dropped(&mut self, through: u64) {
        while self.checkpoints.front().is_some_and(|stretch| stretch.last <= through) {
            self.checkpoints.pop_front();
        }
        self.dependencies.retain(|(earlier, _)| *earlier > through);
    }

    /// As if no entry depended on another: what tests of truncation must notice.
    #[cfg(test)]
    pub(super) fn forget_dependencies(&mut self) {
        self.dependencies.clear();
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
        assert_eq!(horizon.droppable(99, u64::MAX), 0, "the first stretch still matters");
        assert_eq!(horizon.droppable(100, u64::MAX), 3);
        assert_eq!(horizon.droppable(300, u64::MAX), 4);
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
        assert_eq!(horizon.droppable(550, u64::MAX), 2, "7 matters and depends on 3");
        assert_eq!(horizon.droppable(750, u64::MAX), 7, "7 does not matter any more");
        assert_eq!(horizon.droppable(750, 5), 2, "5 stays, and may have depended on 3 as well");
        horizon.depends(2, 3);
        assert_eq!(horizon.droppable(550, u64::MAX), 1, "a chain holds as a whole");
        horizon.dropped(7);
        assert_eq!(horizon.droppable(950, u64::MAX), 9);
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
