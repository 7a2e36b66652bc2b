//! Which messages of the stream count, so that nothing stands in the log twice or out of its order.
//!
//! A writer sends the entries of a batch without waiting for each one's answer. If a server dies meanwhile, some may be lost
//! and later ones kept; if an answer is lost, an entry is sent again that was kept; and what hung in a server may arrive
//! minutes later. That is sorted out here, from the order of the stream alone and therefore on every node alike: a writer has
//! one batch at a time, and of it an entry counts only if it is the next one. What does not count keeps its number in the log
//! and says nothing there (see `writer.rs`).
//!
//! JetStream has ids for messages, by which it drops what comes twice. They are not used: it remembers them for a while only,
//! and on nats-server 2.9 replicas came to differ when messages with ids were sent again around a change of leader.

use std::collections::HashMap;

use async_nats::HeaderMap;

/// The header that says whose entry a message is.
pub(super) const HEADER: &str = "Gateway-Entry";

/// For so long behind the beginning of what a node knows, in milliseconds of log time, a batch may have begun before it:
/// longer than a writer tries.
const CUT_MS: u64 = 60_000;

/// Whose entry a message is: the writer, random; its batches in their order; and the place in the batch, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) writer: u64,
    pub(super) batch: u32,
    pub(super) place: u32,
}

/// How far each writer has come. As many as gateways were started in the time that the log holds.
#[derive(Debug, Default)]
pub(super) struct Fence {
    writers: HashMap<u64, (u32, u32)>,
    /// When the part of the log begins that this node knows, if there was something before.
    cut_ms: Option<u64>,
}

impl Tag {
    /// What a message says of itself; `None` if it is none of ours.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get(HEADER)?.as_str().split('.');
        let writer = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (batch, place) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let whole = parts.next().is_none() && batch > 0 && place > 0;
        whole.then_some(Self { writer, batch, place })
    }

    /// As it stands in the header.
    pub(super) fn id(self) -> String {
        format!("{:016x}.{}.{}", self.writer, self.batch, self.place)
    }
}

impl Fence {
    /// For a log whose first known entry has this timestamp, and is not the first ever.
    pub(super) fn cut_at(timestamp_ms: u64) -> Self {
        Self { cut_ms: Some(timestamp_ms), ..Self::default() }
    }

    /// Whether the next message of the stream counts.
    pub(super) fn admit(&mut self, tag: Tag, timestamp_ms: u64) -> bool {
        let counts = match self.writers.get(&tag.writer) {
            Some((batch, place)) if tag.batch == *batch => place.checked_add(1) == Some(tag.place),
            Some((batch, _)) => tag.batch > *batch && tag.place == 1,
            None => tag.place == 1 || self.cut_ms.is_some_and(|cut_ms| timestamp_ms <= cut_ms + CUT_MS),
        };
        if counts {
            self.remember(tag);
        }
        counts
    }

    /// Notes a message that counted.
    pub(super) fn remember(&mut self, tag: Tag) {
        self.writers.insert(tag.writer, (tag.batch, tag.place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(batch: u32, place: u32) -> Tag {
        Tag { writer: 7, batch, place }
    }

    #[test]
    fn a_tag_reads_back_and_other_texts_are_none() {
        let with_text = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text);
            Tag::of(&headers)
        };
        let greatest = Tag { writer: u64::MAX, batch: u32::MAX, place: u32::MAX };
        assert_eq!(with_text(&greatest.id()), Some(greatest));
        for other in ["", "7", "7.1", "x.1.1", "7.x.1", "7.1.", ".1.1", "7.1.-1", "7.0.1", "7.1.0", "7.1.1.1"]
        {
            assert_eq!(with_text(other), None, "{other}");
        }
        assert_eq!(Tag::of(&HeaderMap::new()), None);
    }

    #[test]
    fn what_comes_twice_or_too_early_or_too_late_does_not_count() {
        let mut fence = Fence::default();
        let mut admit = |batch, place| fence.admit(tag(batch, place), 0);
        assert!(admit(1, 1));
        assert!(!admit(1, 1), "twice");
        assert!(!admit(1, 3), "the second one is missing");
        assert!(admit(1, 2) && admit(1, 3), "now it is the next one");
        assert!(!admit(2, 2), "its beginning is missing");
        assert!(admit(4, 1), "what was refused was a batch, too");
        assert!(!admit(2, 1) && !admit(1, 4), "however late it comes");
        assert!(fence.admit(Tag { writer: 8, batch: 1, place: 1 }, 0));
        fence.remember(tag(4, u32::MAX));
        assert!(!fence.admit(tag(4, 1), 0));
    }

    #[test]
    fn behind_a_cut_a_batch_may_have_begun_before_it() {
        let mut cut = Fence::cut_at(1_000);
        assert!(cut.admit(tag(9, 57), 1_000), "its beginning stood in the part that is gone");
        assert!(!cut.admit(tag(9, 59), 1_000));
        assert!(!cut.admit(Tag { writer: 8, batch: 1, place: 57 }, 1_001 + CUT_MS));
    }

    proptest! {
        /// Whatever is lost, repeated and delayed: what counts of a batch is its beginning, each entry once and in order, and
        /// batches count in their order.
        #[test]
        fn what_counts_is_each_batch_in_order_and_once(
            messages in prop::collection::vec((1_u32..5, 1_u32..6), 0..200),
        ) {
            let mut fence = Fence::default();
            let counted: Vec<(u32, u32)> =
                messages.into_iter().filter(|(batch, place)| fence.admit(tag(*batch, *place), 0)).collect();
            prop_assert!(counted.is_sorted_by(|left, right| left < right), "{:?}", counted);
            for pair in counted.windows(2) {
                let next = pair[1] == (pair[0].0, pair[0].1 + 1);
                prop_assert!(next || pair[1].1 == 1, "{:?}", counted);
            }
        }
    }
}
