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
use bytes::{Buf, BufMut, Bytes, BytesMut};

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

/// For so long behind its last entry, in milliseconds of log time, a checkpoint remembers a writer. Nothing that hangs somewhere
/// on its way arrives later.
const REMEMBERED_MS: u64 = 24 * 3_600 * 1_000;

/// The most writers of a checkpoint, the latest ones: it has to fit a message.
const MAX_REMEMBERED: usize = 16 * 1024;

/// The format of a checkpoint, its first byte.
const FORMAT: u8 = 1;

/// Bytes of a writer in it.
const WRITER_BYTES: usize = 8 + 4 + 4 + 8;

/// How far each writer has come. As many as gateways were started in the time that the log holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    writers: HashMap<u64, Place>,
    /// When the part of the log begins that this node knows, if what was before is not known.
    cut_ms: Option<u64>,
}

/// How far a writer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    batch: u32,
    place: u32,
    /// When it wrote that.
    timestamp_ms: u64,
}

/// How far each writer had come at some place of the log. It is said before what stands up to there is dropped: whoever begins
/// behind it judges like those who have seen it all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The last number of what it speaks of.
    pub(super) through: u64,
    /// Log time there.
    pub(super) newest_ms: u64,
    pub(super) fence: Fence,
}

/// A checkpoint of a later build.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownFormat;

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
    /// Whether the next message of the stream counts.
    pub(super) fn admit(&mut self, tag: Tag, timestamp_ms: u64) -> bool {
        // Of a batch whose beginning is not known.
        let is_cut = self.cut_ms.is_some_and(|cut_ms| timestamp_ms <= cut_ms.saturating_add(CUT_MS));
        let counts = match self.writers.get(&tag.writer) {
            Some(Place { batch, place, .. }) if tag.batch == *batch => {
                place.checked_add(1) == Some(tag.place)
            }
            Some(Place { batch, .. }) => tag.batch > *batch && (tag.place == 1 || is_cut),
            None => tag.place == 1 || is_cut,
        };
        if counts {
            self.remember(tag, timestamp_ms);
        }
        counts
    }

    /// Notes a message that counted.
    pub(super) fn remember(&mut self, tag: Tag, timestamp_ms: u64) {
        let Tag { writer, batch, place } = tag;
        self.writers.insert(writer, Place { batch, place, timestamp_ms });
    }
}

impl Checkpoint {
    /// What is known behind it, of a log that begins at `first`, with an entry of this time: something between may be missing.
    pub(super) fn fence_at(self, first: u64, timestamp_ms: u64) -> Fence {
        let cut_ms = (first > self.through + 1).then_some(timestamp_ms);
        Fence { cut_ms, ..self.fence }
    }

    /// As it stands in the stream.
    pub(super) fn encode(&self) -> Bytes {
        let is_late = |place: &Place| place.timestamp_ms.saturating_add(REMEMBERED_MS) >= self.newest_ms;
        let mut writers: Vec<_> = self.fence.writers.iter().filter(|(_, place)| is_late(place)).collect();
        writers.sort_by_key(|(writer, place)| (std::cmp::Reverse(place.timestamp_ms), **writer));
        writers.truncate(MAX_REMEMBERED);
        let mut out = BytesMut::with_capacity(1 + 8 + 8 + writers.len() * WRITER_BYTES);
        out.put_u8(FORMAT);
        out.put_u64_le(self.through);
        out.put_u64_le(self.newest_ms);
        for (writer, Place { batch, place, timestamp_ms }) in writers {
            out.put_u64_le(*writer);
            out.put_u32_le(*batch);
            out.put_u32_le(*place);
            out.put_u64_le(*timestamp_ms);
        }
        out.freeze()
    }

    /// The other way round; `None` for what is none: somebody else wrote it, and it says nothing.
    ///
    /// # Errors
    /// [`UnknownFormat`]: whoever overlooked it would judge otherwise than those who understand it.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Option<Self>, UnknownFormat> {
        match bytes.try_get_u8() {
            Ok(FORMAT) => {}
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => return Err(UnknownFormat),
        }
        let (Ok(through), Ok(newest_ms)) = (bytes.try_get_u64_le(), bytes.try_get_u64_le()) else {
            return Ok(None);
        };
        if !bytes.len().is_multiple_of(WRITER_BYTES) {
            return Ok(None);
        }
        let mut fence = Fence::default();
        while bytes.has_remaining() {
            let (writer, batch, place) = (bytes.get_u64_le(), bytes.get_u32_le(), bytes.get_u32_le());
            fence.remember(Tag { writer, batch, place }, bytes.get_u64_le());
        }
        Ok(Some(Self { through, newest_ms, fence }))
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
        fence.remember(tag(4, u32::MAX), 0);
        assert!(!fence.admit(tag(4, 1), 0));
    }

    #[test]
    fn behind_a_cut_a_batch_may_have_begun_before_it() {
        let mut cut = Checkpoint::default().fence_at(2, 1_000);
        assert!(cut.admit(tag(9, 57), 1_000), "its beginning stood in the part that is gone");
        assert!(!cut.admit(tag(9, 59), 1_000));
        assert!(!cut.admit(Tag { writer: 8, batch: 1, place: 57 }, 1_001 + CUT_MS));
        // So of a writer that was known before.
        let mut known = Checkpoint { through: 5, ..Checkpoint::default() };
        known.fence.remember(tag(5, 3), 500);
        let mut cut = known.fence_at(9, 1_000);
        assert!(
            cut.admit(tag(9, 57), 1_000) && cut.admit(tag(9, 58), 1_000) && !cut.admit(tag(9, 57), 1_000)
        );
    }

    #[test]
    fn a_checkpoint_reads_back_without_writers_of_long_ago_and_other_bytes_are_none() {
        let mut fence = Fence::default();
        fence.remember(Tag { writer: 1, batch: 1, place: 1 }, 1_000);
        fence.remember(Tag { writer: u64::MAX, batch: u32::MAX, place: u32::MAX }, 1_001);
        let mut checkpoint = Checkpoint { through: 77, newest_ms: 1_000 + REMEMBERED_MS, fence };
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(Some(checkpoint.clone())));
        checkpoint.newest_ms += 1;
        let late = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&late).unwrap().unwrap().fence.writers.len(), 1);
        let empty = Checkpoint::default();
        assert_eq!(Checkpoint::decode(&empty.encode()), Ok(Some(empty)));
        for other in [&late[..16], &late[..late.len() - 1], &[0; 17], &[]] {
            assert_eq!(Checkpoint::decode(other), Ok(None), "{other:?}");
        }
        assert_eq!(Checkpoint::decode(&[FORMAT + 1; 17]), Err(UnknownFormat));
    }

    proptest! {
        /// Wherever a node begins, with the checkpoint of what was dropped it lets the same messages count.
        #[test]
        fn whoever_begins_behind_a_checkpoint_judges_like_those_who_saw_it_all(
            messages in prop::collection::vec((0_u64..3, 1_u32..4, 1_u32..5), 1..100),
            dropped in 0_usize..100,
        ) {
            let dropped = dropped.min(messages.len());
            let tags = messages.iter().map(|(writer, batch, place)| Tag {
                writer: *writer,
                batch: *batch,
                place: *place,
            });
            let mut old = Fence::default();
            let counted: Vec<bool> = tags.clone().map(|tag| old.admit(tag, 0)).collect();
            let mut checkpoint = Checkpoint { through: dropped as u64, ..Checkpoint::default() };
            for (tag, _) in tags.clone().zip(&counted).take(dropped).filter(|(_, counted)| **counted) {
                checkpoint.fence.remember(tag, 0);
            }
            let read = Checkpoint::decode(&checkpoint.encode()).unwrap().unwrap();
            let mut young = read.fence_at(dropped as u64 + 1, 0);
            let again: Vec<bool> = tags.skip(dropped).map(|tag| young.admit(tag, 0)).collect();
            prop_assert_eq!(&again[..], &counted[dropped..]);
        }

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
