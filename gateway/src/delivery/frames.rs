//! The recent frames of this node, by number: what sessions read nearly always, so that the log need not be asked.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::Shared;
use crate::log::entry::{Publish, PublishTrace, Recipients};
use crate::telemetry::Published;

/// The shared part of a notification's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Everything behind `prev`; see [`crate::protocol::encode_body`].
    pub body: Bytes,
    /// When the gateway accepted it, in microseconds since the Unix epoch.
    pub accepted_at_us: u64,
    /// What to record of its way, if its trace is recorded.
    pub trace: Option<Arc<Published>>,
}

impl Frame {
    /// The frame of a publish entry of `entry_bytes`; `applied_at_us` if it is applied now, and its trace is recorded.
    pub(super) fn of_publish(
        shared: &Shared,
        publish: &Publish,
        entry_bytes: usize,
        applied_at_us: Option<u64>,
    ) -> Self {
        let trace = publish.trace.map(|trace| published(shared, publish, trace, applied_at_us));
        Self::of_entry(&publish.body, publish.accepted_at_us, entry_bytes, trace)
    }

    /// The frame of an entry of `entry_bytes`.
    ///
    /// The body is a slice of its entry and keeps all of it in memory, the names of thousands of recipients included. Where
    /// that would be more than twice the body, the body is copied out.
    #[must_use]
    fn of_entry(body: &Bytes, accepted_at_us: u64, entry_bytes: usize, trace: Option<Published>) -> Self {
        let slim = entry_bytes <= 2 * body.len();
        let body = if slim { body.clone() } else { Bytes::copy_from_slice(body) };
        Self { body, accepted_at_us, trace: trace.map(Arc::new) }
    }
}

/// A bounded window onto the newest frames.
pub struct FrameCache {
    ring: RwLock<Ring>,
    max_bytes: u64,
}

#[derive(Default)]
struct Ring {
    /// The number of `frames[0]`.
    first: u64,
    /// `None` for entries that are no notification.
    frames: VecDeque<Option<Frame>>,
    bytes: u64,
}

/// What a frame costs beside its body: its place in the ring and its buffer's header.
const FRAME_OVERHEAD_BYTES: u64 = 96;

impl FrameCache {
    /// An empty cache that holds at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self { ring: RwLock::default(), max_bytes }
    }

    /// Adds what the entry `number` carries; numbers come without a hole. The oldest frames make room.
    pub fn push(&self, number: u64, frame: Option<Frame>) {
        let mut ring = self.ring.write().expect("no code panics while it holds the cache");
        if ring.first + ring.frames.len() as u64 != number {
            *ring = Ring { first: number, ..Ring::default() };
        }
        ring.bytes += cost(frame.as_ref());
        ring.frames.push_back(frame);
        while ring.bytes > self.max_bytes
            && let Some(oldest) = ring.frames.pop_front()
        {
            ring.bytes -= cost(oldest.as_ref());
            ring.first += 1;
        }
    }

    /// Looks frames up under one lock.
    pub fn reader(&self) -> FrameReader<'_> {
        FrameReader(self.ring.read().expect("no code panics while it holds the cache"))
    }
}

/// A moment's view of the cache.
pub struct FrameReader<'a>(RwLockReadGuard<'a, Ring>);

impl FrameReader<'_> {
    /// The frame, if it is still here.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Frame> {
        let index = usize::try_from(number.checked_sub(self.0.first)?).ok()?;
        self.0.frames.get(index)?.as_ref()
    }
}

/// What the sessions need to record their share of a traced notification.
fn published(
    shared: &Shared,
    publish: &Publish,
    trace: PublishTrace,
    applied_at_us: Option<u64>,
) -> Published {
    let PublishTrace { context, notifications } = trace;
    let connected = shared.connected();
    let recipients = match &publish.recipients {
        Recipients::Users(names) => names.count(),
        Recipients::Topic(_) => {
            let topic = publish.recipients.topic().unwrap_or_default();
            u32::try_from(shared.state.topics().members(topic).len()).unwrap_or(u32::MAX)
        }
        Recipients::Everybody => connected,
    };
    let crowd = recipients.saturating_mul(notifications);
    let deliveries = recipients.min(connected).saturating_mul(notifications);
    Published { context, id: publish.id, applied_at_us, recipients, crowd, deliveries }
}

fn cost(frame: Option<&Frame>) -> u64 {
    // A body that shares its entry keeps up to twice its size.
    FRAME_OVERHEAD_BYTES + frame.map_or(0, |frame| 2 * frame.body.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Frame {
        Frame { body: Bytes::from_static(text.as_bytes()), accepted_at_us: 0, trace: None }
    }

    #[test]
    fn the_oldest_frames_make_room_and_the_newest_stay() {
        let cache = FrameCache::new(2 * (FRAME_OVERHEAD_BYTES + 2));
        cache.push(7, Some(frame("a")));
        cache.push(8, Some(frame("b")));
        assert_eq!(cache.reader().get(7), Some(&frame("a")));
        cache.push(9, Some(frame("c")));
        let reader = cache.reader();
        assert_eq!(
            (reader.get(7), reader.get(8), reader.get(9)),
            (None, Some(&frame("b")), Some(&frame("c")))
        );
        assert_eq!(reader.get(10), None);
    }

    #[test]
    fn a_frame_does_not_keep_the_names_of_its_recipients_in_memory() {
        let entry = Bytes::from(vec![b'x'; 100_000]);
        let body = entry.slice(99_800..);
        let frame = Frame::of_entry(&body, 0, entry.len(), None);
        assert_eq!(frame.body, body);
        assert!(!entry.as_ptr_range().contains(&frame.body.as_ptr()), "it holds the whole entry");
        let most = entry.slice(10..);
        assert!(
            entry.as_ptr_range().contains(&Frame::of_entry(&most, 0, entry.len(), None).body.as_ptr()),
            "no copy is needed"
        );
    }

    #[test]
    fn entries_without_a_frame_keep_their_place() {
        let cache = FrameCache::new(1 << 20);
        cache.push(1, Some(frame("a")));
        cache.push(2, None);
        cache.push(3, Some(frame("c")));
        let reader = cache.reader();
        assert_eq!((reader.get(2), reader.get(3)), (None, Some(&frame("c"))));
    }
}
