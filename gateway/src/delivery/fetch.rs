//! From the numbers that a mailbox gives to frames: the recent ones of the node, and old ones from the log.
//!
//! Every frame of a pull is taken hold of at one moment: what is evicted from the recent ones afterwards is not missed.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::{Frame, FrameSink, Shared};
use crate::domain::{Epoch, GapReason, Position};
use crate::log::ReadError;
use crate::log::entry::{self, Entry};
use crate::registry::Item;

/// Entries read from the log at once: each may carry the names of thousands of recipients beside its frame.
const LOAD_AT_ONCE: usize = 16;

/// Old frames that were read from the log; `None` for one that is gone.
#[derive(Default)]
pub(super) struct Loaded(BTreeMap<u64, Option<Frame>>);

/// A frame for each notification among the items of a pull, in their order; `None` for one that is gone.
pub(super) type Found = SmallVec<[Option<Frame>; 4]>;

impl Loaded {
    /// The frames of all notifications among `items`, or the numbers of those that are neither recent nor loaded.
    pub(super) fn find(&self, shared: &Shared, items: &[Item]) -> Result<Found, Vec<u64>> {
        let recent = shared.frames.reader();
        let (mut found, mut missing) = (Found::new(), Vec::new());
        for item in items {
            let Item::Notification { number, .. } = item else { continue };
            match recent.get(*number).cloned().map(Some).or_else(|| self.0.get(number).cloned()) {
                Some(frame) => found.push(frame),
                None => missing.push(*number),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(missing) }
    }

    /// Reads frames from the log.
    pub(super) async fn load(&mut self, shared: &Shared, numbers: Vec<u64>) -> Result<(), ReadError> {
        for numbers in numbers.chunks(LOAD_AT_ONCE) {
            let entries = shared.log.read(numbers.to_vec()).await?;
            for (number, entry) in numbers.iter().zip(entries) {
                let frame = entry.and_then(|entry| match entry::decode(&entry.payload) {
                    Ok(Entry::Publish(publish)) => {
                        Some(Frame::of_publish(shared, &publish, entry.payload.len(), None))
                    }
                    _ => None,
                });
                self.0.insert(*number, frame);
            }
        }
        Ok(())
    }
}

/// Gives every item to the sink. The reader stands at `place`, where a foreign position may have brought it; live
/// notifications begin behind `head`.
pub(super) fn hand_over(
    epoch: Epoch,
    items: &[Item],
    frames: &Found,
    (foreign, mut place): (Option<Position>, u64),
    head: u64,
    sink: &mut impl FrameSink,
) {
    let at = |number| Position::new(epoch, number);
    if let Some(foreign) = foreign {
        sink.gap(foreign, at(place), None, GapReason::Epoch);
    }
    let mut frames = frames.iter();
    for item in items {
        match *item {
            Item::Notification { number, prev } => {
                match frames.next().and_then(Option::as_ref) {
                    Some(frame) => sink.notification(number, prev, frame, number > head),
                    // It was given up between the look into the mailbox and the look into the log.
                    None => sink.gap(at(place), at(number), Some(1), GapReason::Overflow),
                }
                place = number;
            }
            Item::Gap { after, until, count, reason } => {
                sink.gap(at(after), at(until), count, reason);
                place = until;
            }
        }
    }
}
