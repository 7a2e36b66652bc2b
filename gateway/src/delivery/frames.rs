//! The recent frames of this node, by number: what sessions read nearly always, so that the log need not be asked.

use std::collections::VecDeque;
use std::sync::{RwLock, RwLockReadGuard};

use bytes::Bytes;

/// The shared part of a notification's frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Everything behind `prev`; see [`crate::protocol::encode_body`].
    pub body: Bytes,
    /// When the gateway accepted it, in microseconds since the Unix epoch.
    pub accepted_at_us: u64,
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

/// What a frame costs beside its body: its place in the ring and its share of the entry's header.
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

fn cost(frame: Option<&Frame>) -> u64 {
    FRAME_OVERHEAD_BYTES + frame.map_or(0, |frame| frame.body.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Frame {
        Frame { body: Bytes::from_static(text.as_bytes()), accepted_at_us: 0 }
    }

    #[test]
    fn the_oldest_frames_make_room_and_the_newest_stay() {
        let cache = FrameCache::new(2 * (FRAME_OVERHEAD_BYTES + 1));
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
    fn entries_without_a_frame_keep_their_place() {
        let cache = FrameCache::new(1 << 20);
        cache.push(1, Some(frame("a")));
        cache.push(2, None);
        cache.push(3, Some(frame("c")));
        let reader = cache.reader();
        assert_eq!((reader.get(2), reader.get(3)), (None, Some(&frame("c"))));
    }
}
