//! Receiving: a session's place in its mailbox, from attach to detach.
//!
//! A [`Subscription`] holds a cursor and nothing else; what it reads comes from the mailbox (which numbers), the recent
//! frames (their bytes) and, for old ones, the log. Dropping it detaches exactly this session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Delivery, Frame, Shared};
use crate::domain::{GapReason, Position, UserId};
use crate::log::ReadError;
use crate::log::entry::{self, Entry};
use crate::protocol::CloseCode;
use crate::registry::{Cursor, Item, PullLimits, SessionHandle, SessionId, StartAt, UserKey};

/// Notifications a session reads at once.
const PULL_FRAMES: usize = 64;

/// Bytes of frames a session reads at once.
const PULL_BYTES: u64 = 16 * 1024;

/// How long an attach waits for this node to catch up with a position that the log already has.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a receiver wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// In front of everything that is retained.
    Start,
    /// With the next notification.
    Now,
    /// Behind a position it has seen.
    Position(Position),
}

/// Why a session could not be attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The log has the position, this node does not yet.
    #[error("this node is behind the position; come back later")]
    Behind,
    /// The log could not be asked.
    #[error(transparent)]
    Log(#[from] ReadError),
}

/// A session's place in its mailbox.
pub struct Subscription {
    shared: Arc<Shared>,
    key: UserKey,
    handle: Arc<SessionHandle>,
    cursor: Cursor,
    start: u64,
    head: u64,
    /// A gap that only the attach knows of: the position came from another epoch.
    foreign: Option<Position>,
    /// Old frames that were read from the log for the next pull; `None` for one that is gone. Nearly always empty.
    loaded: BTreeMap<u64, Option<Frame>>,
}

/// Takes what a subscription reads, in order.
pub trait FrameSink {
    /// A notification; `live` if it came while the session was attached.
    fn notification(&mut self, number: u64, prev: u64, frame: &Frame, live: bool);
    /// A range that the session does not get.
    fn gap(&mut self, after: Position, until: Position, count: Option<u32>, reason: GapReason);
}

/// How a pull ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Pull {
    /// There is nothing more until the session is woken.
    Drained,
    /// There is more: pull again once this is written.
    More,
    /// Nothing was read: these frames have to be loaded first.
    Missing(Vec<u64>),
}

impl Delivery {
    /// Registers a session for `user` and fixes where it starts: whatever was accepted before this call and lies behind
    /// `after`, and everything accepted later, comes out of its pulls, once and in order.
    ///
    /// # Errors
    /// [`SubscribeError`] when the position cannot be judged yet.
    pub async fn subscribe(&self, user: &UserId, after: After) -> Result<Subscription, SubscribeError> {
        let shared = &self.shared;
        let (start, foreign) = match after {
            After::Start => (StartAt::Start, None),
            After::Now => (StartAt::Now, None),
            After::Position(position) => {
                if self.is_known(position).await? {
                    (StartAt::After(position.number), None)
                } else {
                    (StartAt::Start, Some(position))
                }
            }
        };
        let id = SessionId(shared.next_session.fetch_add(1, Ordering::Relaxed));
        let handle = Arc::new(SessionHandle::new(id, shared.clock.now_ms()));
        let key = shared.registry.key(user.as_str());
        let applied = shared.applied.get();
        let attached =
            shared.registry.attach(&key, Arc::clone(&handle), start, applied, shared.max_sessions_per_user);
        if let Some(displaced) = attached.displaced {
            displaced.close(CloseCode::TooManySessions);
        }
        Ok(Subscription {
            shared: Arc::clone(shared),
            key,
            handle,
            cursor: attached.cursor,
            start: attached.cursor.number,
            head: attached.head,
            foreign,
            loaded: BTreeMap::new(),
        })
    }

    /// Whether the position belongs to this log; waits for this node if only the log has it yet.
    async fn is_known(&self, position: Position) -> Result<bool, SubscribeError> {
        let shared = &self.shared;
        if position.epoch != shared.epoch {
            return Ok(false);
        }
        if position.number <= shared.applied.get() {
            return Ok(true);
        }
        if position.number > shared.log.state().await?.head {
            return Ok(false);
        }
        if shared.applied.reached_within(position.number, CATCH_UP_TIMEOUT).await {
            Ok(true)
        } else {
            Err(SubscribeError::Behind)
        }
    }
}

impl Subscription {
    /// The outside of this session.
    #[must_use]
    pub fn handle(&self) -> &Arc<SessionHandle> {
        &self.handle
    }

    /// The position the session started from.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at(self.start)
    }

    /// The mailbox's last position at attach, or the applied position if that was later.
    #[must_use]
    pub fn head(&self) -> Position {
        self.at(self.head)
    }

    /// The epoch of every position here.
    #[must_use]
    pub fn epoch(&self) -> crate::domain::Epoch {
        self.shared.epoch
    }

    /// Hands what lies behind the cursor to `sink`, at most 64 notifications or 16 KiB at once.
    pub fn pull(&mut self, sink: &mut impl FrameSink) -> Pull {
        let mut cursor = self.cursor;
        let mut items: SmallVec<[Item; 4]> = SmallVec::new();
        let limits = PullLimits { frames: PULL_FRAMES, bytes: PULL_BYTES };
        let more = self.shared.registry.pull(&self.key, &mut cursor, limits, &mut items);
        let missing = self.hand_over(&items, sink);
        if !missing.is_empty() {
            return Pull::Missing(missing);
        }
        self.cursor = cursor;
        self.loaded.clear();
        if more { Pull::More } else { Pull::Drained }
    }

    /// Reads old frames from the log, for the next pull.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn load(&mut self, numbers: Vec<u64>) -> Result<(), ReadError> {
        let entries = self.shared.log.read(numbers.clone()).await?;
        for (number, entry) in numbers.into_iter().zip(entries) {
            let frame = entry.and_then(|entry| match entry::decode(&entry.payload) {
                Ok(Entry::Publish(publish)) => {
                    Some(Frame { body: publish.body, accepted_at_us: publish.accepted_at_us })
                }
                _ => None,
            });
            self.loaded.insert(number, frame);
        }
        Ok(())
    }

    /// Gives every item to the sink, or, if a frame is neither recent nor loaded, none and the numbers that are missing.
    fn hand_over(&mut self, items: &[Item], sink: &mut impl FrameSink) -> Vec<u64> {
        let recent = self.shared.frames.reader();
        let loaded = &self.loaded;
        let missing: Vec<u64> = items
            .iter()
            .filter_map(|item| match item {
                Item::Notification { number, .. } => Some(*number),
                Item::Gap { .. } => None,
            })
            .filter(|number| recent.get(*number).is_none() && !loaded.contains_key(number))
            .collect();
        if !missing.is_empty() {
            return missing;
        }
        let epoch = self.shared.epoch;
        if let Some(foreign) = self.foreign.take() {
            sink.gap(foreign, Position::new(epoch, self.start), None, GapReason::Epoch);
        }
        let mut place = self.cursor.number;
        for item in items {
            match *item {
                Item::Notification { number, prev } => {
                    let frame = recent.get(number).or_else(|| loaded.get(&number)?.as_ref());
                    match frame {
                        Some(frame) => sink.notification(number, prev, frame, number > self.head),
                        // It was given up between the look into the mailbox and the look into the log.
                        None => sink.gap(
                            Position::new(epoch, place),
                            Position::new(epoch, number),
                            Some(1),
                            GapReason::Overflow,
                        ),
                    }
                    place = number;
                }
                Item::Gap { after, until, count, reason } => {
                    sink.gap(Position::new(epoch, after), Position::new(epoch, until), count, reason);
                    place = until;
                }
            }
        }
        missing
    }

    fn at(&self, number: u64) -> Position {
        Position::new(self.shared.epoch, number)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.registry.detach(&self.key, self.handle.id());
    }
}
