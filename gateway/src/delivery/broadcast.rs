//! What went to everybody who is connected: a few recent frames, kept for no one in particular.
//!
//! Such a frame has no position and stands in no mailbox. A session remembers how far it has read in this ring; one that is
//! so slow that the ring overtakes it does not get what it missed, and nobody announces it: that is what volatile means.

use std::collections::VecDeque;
use std::sync::{RwLock, RwLockReadGuard};

use super::Frame;

/// Frames that are kept for sessions that have not read them yet.
const KEPT_FRAMES: usize = 64;

/// The recent broadcasts of this node.
#[derive(Default)]
pub struct Broadcasts(RwLock<Ring>);

#[derive(Default)]
struct Ring {
    /// How many came before `frames[0]`.
    first: u64,
    frames: VecDeque<Frame>,
}

impl Broadcasts {
    /// Adds one; the oldest makes room.
    pub fn push(&self, frame: Frame) {
        let mut ring = self.0.write().expect("no code panics while it holds the ring");
        ring.frames.push_back(frame);
        if ring.frames.len() > KEPT_FRAMES {
            ring.frames.pop_front();
            ring.first += 1;
        }
    }

    /// How many there were so far: where a session starts that is attached now.
    #[must_use]
    pub fn head(&self) -> u64 {
        let ring = self.read();
        ring.first + ring.frames.len() as u64
    }

    /// Those behind `cursor` that are still here, at most `max_bytes` of them (one comes even if it is larger), and whether
    /// there are more; moves the cursor behind them.
    pub fn behind(&self, cursor: &mut u64, max_bytes: u64) -> (Vec<Frame>, bool) {
        let ring = self.read();
        let head = ring.first + ring.frames.len() as u64;
        *cursor = (*cursor).max(ring.first);
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let skip = usize::try_from(*cursor - ring.first).unwrap_or(usize::MAX);
        for frame in ring.frames.iter().skip(skip) {
            bytes += frame.body.len() as u64;
            if bytes > max_bytes && !frames.is_empty() {
                break;
            }
            frames.push(frame.clone());
            *cursor += 1;
        }
        (frames, *cursor < head)
    }

    fn read(&self) -> RwLockReadGuard<'_, Ring> {
        self.0.read().expect("no code panics while it holds the ring")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_what_came_since_it_read_as_far_as_that_is_kept() {
        let frame = |index: u64| Frame { body: index.to_string().into(), accepted_at_us: index, trace: None };
        let broadcasts = Broadcasts::default();
        broadcasts.push(frame(0));
        let mut cursor = broadcasts.head();
        assert_eq!(broadcasts.behind(&mut cursor, 1_000), (Vec::new(), false));
        (1..=3).for_each(|index| broadcasts.push(frame(index)));
        let (first, more) = broadcasts.behind(&mut cursor, 2);
        assert!(first.iter().map(|frame| frame.accepted_at_us).eq(1..=2) && more, "two bytes at most");
        let (last, more) = broadcasts.behind(&mut cursor, 0);
        assert!(last.iter().map(|frame| frame.accepted_at_us).eq(3..=3) && !more, "one comes in any case");
        assert_eq!(broadcasts.behind(&mut cursor, 1_000), (Vec::new(), false));
        (4..=200).for_each(|index| broadcasts.push(frame(index)));
        let (kept, _) = broadcasts.behind(&mut cursor, 1_000);
        assert!(kept.iter().map(|frame| frame.accepted_at_us).eq(200 - KEPT_FRAMES as u64 + 1..=200));
    }
}
