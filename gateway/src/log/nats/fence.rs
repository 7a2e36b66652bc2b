//! Which messages of the stream count, so that nothing stands in the log twice or out of its order.
//!
//! A writer sends the entries of a batch without waiting for each one's answer. If a server dies meanwhile, some may be lost
//! and later ones kept; if an answer is lost, an entry is sent again that was kept. That is sorted out here, from the order of
//! the stream alone and therefore on every node alike: of each batch an entry counts only if it is the next one. What does not
//! count keeps its number in the log and says nothing there; what was sent too early its writer sends again, in a batch of its
//! own (see `writer.rs`).
//!
//! JetStream has ids for messages, by which it drops what comes twice. They are not used: it remembers them for a while only,
//! and on nats-server 2.9 replicas came to differ when messages with ids were sent again around a change of leader.

use std::collections::HashMap;

use async_nats::HeaderMap;

/// The header that says whose entry a message is.
pub(super) const HEADER: &str = "Gateway-Entry";

/// How long a batch is remembered after its last entry, in milliseconds of log time: longer than its writer tries.
pub(super) const MEMORY_MS: u64 = 60_000;

/// Batches that are looked through for old ones at once.
const SWEEP_AT: usize = 4_096;

/// Whose entry a message is: the batch, random, and the place in it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) batch: u64,
    pub(super) place: u32,
}

/// The batches that messages may still come of.
#[derive(Debug, Default)]
pub(super) struct Fence {
    batches: HashMap<u64, Last>,
    /// When the part of the log begins that this node knows, if there was something before: the first entries of a batch
    /// may be gone.
    cut_ms: Option<u64>,
    sweep_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    place: u32,
    timestamp_ms: u64,
}

impl Tag {
    /// What a message says of itself; `None` if it is none of ours.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let (batch, place) = headers.get(HEADER)?.as_str().split_once('.')?;
        Some(Self { batch: u64::from_str_radix(batch, 16).ok()?, place: place.parse().ok()? })
    }

    /// As it stands in the header.
    pub(super) fn id(self) -> String {
        format!("{:016x}.{}", self.batch, self.place)
    }
}

impl Fence {
    /// For a log whose first known entry has this timestamp, and is not the first ever.
    pub(super) fn cut_at(timestamp_ms: u64) -> Self {
        Self { cut_ms: Some(timestamp_ms), ..Self::default() }
    }

    /// Whether the next message of the stream counts.
    pub(super) fn admit(&mut self, tag: Tag, timestamp_ms: u64) -> bool {
        let known = self.batches.get(&tag.batch).filter(|last| last.is_remembered(timestamp_ms));
        let counts = match known {
            Some(last) => tag.place == last.place + 1,
            None => tag.place == 1 || self.may_be_cut(timestamp_ms),
        };
        if counts {
            self.remember(tag, timestamp_ms);
        }
        counts
    }

    /// Notes a message that counted.
    pub(super) fn remember(&mut self, tag: Tag, timestamp_ms: u64) {
        self.batches.insert(tag.batch, Last { place: tag.place, timestamp_ms });
        if self.batches.len() > self.sweep_at.max(SWEEP_AT) {
            self.batches.retain(|_, last| last.is_remembered(timestamp_ms));
            self.sweep_at = 2 * self.batches.len();
        }
    }

    fn may_be_cut(&self, timestamp_ms: u64) -> bool {
        self.cut_ms.is_some_and(|cut_ms| timestamp_ms <= cut_ms + MEMORY_MS)
    }
}

impl Last {
    fn is_remembered(self, now_ms: u64) -> bool {
        now_ms <= self.timestamp_ms + MEMORY_MS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(batch: u64, place: u32) -> Tag {
        Tag { batch, place }
    }

    #[test]
    fn a_tag_reads_back_and_other_ids_are_none() {
        let with_id = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, id);
            Tag::of(&headers)
        };
        assert_eq!(with_id(&tag(u64::MAX, 1_024).id()), Some(tag(u64::MAX, 1_024)));
        for other in ["", "7", "x.1", "1.x", "1.", ".1", "1.-1"] {
            assert_eq!(with_id(other), None, "{other}");
        }
        assert_eq!(Tag::of(&HeaderMap::new()), None);
    }

    #[test]
    fn what_comes_twice_or_too_early_does_not_count() {
        let mut fence = Fence::default();
        assert!(fence.admit(tag(1, 1), 0));
        assert!(!fence.admit(tag(1, 1), 1), "twice");
        assert!(!fence.admit(tag(1, 3), 2), "the second one is missing");
        assert!(fence.admit(tag(1, 2), 3));
        assert!(fence.admit(tag(1, 3), 4), "now it is the next one");
        assert!(!fence.admit(tag(2, 2), 5), "its beginning is missing");
        assert!(fence.admit(tag(2, 1), 6));
    }

    #[test]
    fn a_batch_is_forgotten_by_log_time_alone() {
        let mut fence = Fence::default();
        assert!(fence.admit(tag(1, 1), 0));
        assert!(!fence.admit(tag(1, 3), MEMORY_MS));
        assert!(!fence.admit(tag(1, 2), MEMORY_MS + 1), "nobody tries for so long");
        let mut cut = Fence::cut_at(1_000);
        assert!(cut.admit(tag(1, 57), 1_000), "its beginning stood in the part that is gone");
        assert!(!cut.admit(tag(1, 59), 1_000));
        assert!(!cut.admit(tag(2, 57), 1_001 + MEMORY_MS));
    }

    #[test]
    fn old_batches_take_no_memory() {
        let mut fence = Fence::default();
        for batch in 0..100_000 {
            assert!(fence.admit(tag(batch, 1), batch * MEMORY_MS / 1_000));
        }
        assert!(fence.batches.len() <= 2 * SWEEP_AT, "{}", fence.batches.len());
    }

    proptest! {
        /// Whatever is lost, repeated and delayed: what counts of a batch is its beginning, each entry once and in order.
        #[test]
        fn what_counts_is_each_batch_in_order_and_once(
            messages in prop::collection::vec((0_u64..4, 1_u32..6), 0..200),
        ) {
            let mut fence = Fence::default();
            let mut counted: HashMap<u64, Vec<u32>> = HashMap::new();
            for (time, (batch, place)) in (0..).zip(messages) {
                if fence.admit(tag(batch, place), time) {
                    counted.entry(batch).or_default().push(place);
                }
            }
            for places in counted.values() {
                prop_assert!(places.iter().copied().eq(1..=u32::try_from(places.len()).unwrap()), "{:?}", places);
            }
        }
    }
}
