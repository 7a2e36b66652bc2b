//! Receiving: a session's place in its mailbox, from attach to detach.
//!
//! A [`Subscription`] holds a cursor and nothing else; what it reads comes from the mailbox (which numbers), the recent
//! frames (their bytes) and, for old ones, the log. Dropping it detaches exactly this session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::fetch::{Loaded, hand_over};
use super::{Delivery, Frame, Shared};
use crate::domain::{GapReason, Position, UserId};
use crate::log::ReadError;
use crate::metrics::{ResumeOutcome, Transport};
use crate::protocol::CloseCode;
use crate::registry::{Cursor, Item, PullLimits, SessionHandle, SessionId, StartAt, UserKey};

/// Notifications a session reads at once.
const PULL_FRAMES: usize = 64;

/// Bytes of frames a session reads at once.
const PULL_BYTES: u64 = 16 * 1024;

/// Bytes of frames in a page: one full mailbox.
const PAGE_BYTES: u64 = 1024 * 1024;

/// How long an attach waits for this node to catch up with a position that the log already has.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a receiver wants to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum After {
    /// Behind the user's acked position: with everything that is not acked.
    #[default]
    Acked,
    /// In front of everything that is held, acked or not.
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
    /// How far it has read among the broadcasts.
    broadcasts: u64,
    /// Everything behind the first and up to the second number is acked by this session.
    acked: (u64, u64),
    transport: Transport,
    /// Old frames that were read from the log for the next pull. Nearly always empty.
    loaded: Loaded,
    /// What waited for it, until all of that was handed over.
    replay: Option<Replay>,
}

/// How a session's beginning goes: what waited for it comes first.
struct Replay {
    /// It named a position of this log.
    resumes: bool,
    /// Notifications handed over so far.
    notifications: u32,
    /// Something behind its position was lost.
    lost: bool,
    /// Its position was of another epoch.
    foreign: bool,
}

/// Where a page ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Behind the last frame of the page: the `after` of the next one.
    pub position: Position,
    /// The mailbox's last position.
    pub head: Position,
    /// The limit left something behind.
    pub more: bool,
}

/// Takes what a subscription reads, in order.
pub trait FrameSink {
    /// A notification; `live` if it came while the session was attached.
    fn notification(&mut self, number: u64, prev: u64, frame: &Frame, live: bool);
    /// A notification for everybody who is connected: it has no position.
    fn broadcast(&mut self, frame: &Frame);
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
    pub async fn subscribe(
        &self,
        user: &UserId,
        after: After,
        transport: Transport,
    ) -> Result<Subscription, SubscribeError> {
        let shared = &self.shared;
        let (start, foreign) = self.start_at(after).await?;
        let id = SessionId(shared.next_session.fetch_add(1, Ordering::Relaxed));
        let handle = Arc::new(SessionHandle::new(id, shared.clock.now_ms()));
        let registry = &shared.state.registry;
        let key = registry.key(user.as_str());
        let broadcasts = shared.broadcasts.head();
        let applied = shared.applied.get();
        let attached =
            registry.attach(&key, Arc::clone(&handle), start, applied, shared.max_sessions_per_user);
        if let Some(displaced) = attached.displaced {
            displaced.close(CloseCode::TooManySessions);
        }
        shared.metrics.sessions.of(transport).inc();
        Ok(Subscription {
            shared: Arc::clone(shared),
            key,
            handle,
            cursor: attached.cursor,
            start: attached.cursor.number,
            head: attached.head,
            foreign,
            broadcasts,
            acked: (attached.cursor.number, attached.cursor.number),
            transport,
            loaded: Loaded::default(),
            replay: Some(Replay {
                resumes: matches!(after, After::Position(_)),
                notifications: 0,
                lost: false,
                foreign: foreign.is_some(),
            }),
        })
    }

    /// Reads a page of a user's mailbox, without a session: what lies behind `after`, at most `limit` notifications.
    ///
    /// # Errors
    /// [`SubscribeError`] when the position cannot be judged yet, or the log cannot be read.
    pub async fn read(
        &self,
        user: &UserId,
        after: After,
        limit: usize,
        sink: &mut impl FrameSink,
    ) -> Result<Page, SubscribeError> {
        let shared = &self.shared;
        self.catch_up().await;
        let (start, foreign) = self.start_at(after).await?;
        if shared.applied.is_outdated() {
            return Err(SubscribeError::Behind);
        }
        let key = shared.state.registry.key(user.as_str());
        let (begin, head) = shared.state.registry.cursor(&key, start, shared.applied.get());
        let limits = PullLimits { frames: limit, bytes: PAGE_BYTES };
        let mut loaded = Loaded::default();
        let (cursor, more) = loop {
            let (mut cursor, mut items) = (begin, Vec::new());
            let more = shared.state.registry.pull(&key, &mut cursor, limits, &mut items);
            match loaded.find(shared, &items) {
                Ok(frames) => {
                    hand_over(shared.epoch, &items, &frames, (foreign, begin.number), head, sink);
                    break (cursor, more);
                }
                Err(missing) => loaded.load(shared, missing).await?,
            }
        };
        let at = |number| Position::new(shared.epoch, number);
        Ok(Page { position: at(cursor.number), head: at(head), more })
    }

    /// Where the registry has to start, and the position of another history, if it is one.
    async fn start_at(&self, after: After) -> Result<(StartAt, Option<Position>), SubscribeError> {
        Ok(match after {
            After::Acked => (StartAt::Acked, None),
            After::Start => (StartAt::Start, None),
            After::Now => (StartAt::Now, None),
            After::Position(position) if self.is_known(position).await? => {
                (StartAt::After(position.number), None)
            }
            // Nobody knows what that client has seen: it gets everything that is not acked.
            After::Position(position) => (StartAt::Acked, Some(position)),
        })
    }

    /// Whether the position belongs to this log; waits for this node if only the log has it yet.
    pub(super) async fn is_known(&self, position: Position) -> Result<bool, SubscribeError> {
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

    /// Whose session it is.
    #[must_use]
    pub fn user(&self) -> &Arc<str> {
        self.key.user()
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

    /// Everything up to this position was handed over.
    #[must_use]
    pub fn read_up_to(&self) -> Position {
        self.at(self.cursor.number)
    }

    /// Whether an ack of this session could still make something final: it has not acked all that it was given, and something
    /// is pending.
    #[must_use]
    pub fn awaits_ack(&self) -> bool {
        let shared = &self.shared;
        !shared.applied.is_outdated()
            && self.acked.1 < self.cursor.number
            && shared.state.registry.summary(self.key.user(), shared.applied.get()).pending > 0
    }

    /// Acks what this session was given up to `position`: everything behind where it started, or behind `after`, if that is
    /// earlier. Positions of before, of another epoch, and of what it was not given yet cover nothing more.
    pub fn ack(&mut self, position: Position, after: Option<Position>) {
        let epoch = self.shared.epoch;
        let until = position.number.min(self.cursor.number);
        if position.epoch != epoch {
            return;
        }
        let (from, acked) = self.acked;
        match after.filter(|after| after.epoch == epoch && after.number < from) {
            // All of it lies before this session.
            Some(after) if until < from => {
                self.shared.acks.gather(self.key.user(), after.number, until);
            }
            Some(after) => {
                self.shared.acks.gather(self.key.user(), after.number, until.max(acked));
                self.acked = (after.number, until.max(acked));
            }
            None if until > acked => {
                self.shared.acks.gather(self.key.user(), acked, until);
                self.acked = (from, until);
            }
            None => {}
        }
    }

    /// Whether an ack up to `position` covers something that this session was given and has not acked.
    #[must_use]
    pub fn is_news(&self, position: Position) -> bool {
        position.epoch == self.shared.epoch && position.number.min(self.cursor.number) > self.acked.1
    }

    /// Hands what lies behind the cursor to `sink`, at most 64 notifications or 16 KiB at once.
    ///
    /// Nothing once the log has become another one: what the mailbox says may not be so, and its positions mean nothing there.
    pub fn pull(&mut self, sink: &mut impl FrameSink) -> Pull {
        if self.shared.applied.is_outdated() {
            return Pull::Drained;
        }
        let mut cursor = self.cursor;
        let mut items: SmallVec<[Item; 4]> = SmallVec::new();
        let limits = PullLimits { frames: PULL_FRAMES, bytes: PULL_BYTES };
        let more = self.shared.state.registry.pull(&self.key, &mut cursor, limits, &mut items);
        let frames = match self.loaded.find(&self.shared, &items) {
            Ok(frames) => frames,
            Err(missing) => return Pull::Missing(missing),
        };
        let place = (self.foreign.take(), self.cursor.number);
        hand_over(self.shared.epoch, &items, &frames, place, self.head, sink);
        self.loaded = Loaded::default();
        self.cursor = cursor;
        if let Some(replay) = &mut self.replay {
            replay.note(&items, self.head);
            if !more || cursor.number >= self.head {
                self.count_replay();
            }
        }
        self.handle.has_read(cursor.number);
        if more {
            return Pull::More;
        }
        let (broadcasts, more) = self.shared.broadcasts.behind(&mut self.broadcasts, PULL_BYTES);
        broadcasts.iter().for_each(|frame| sink.broadcast(frame));
        if more { Pull::More } else { Pull::Drained }
    }

    /// Reads old frames from the log, for the next pull.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn load(&mut self, numbers: Vec<u64>) -> Result<(), ReadError> {
        self.loaded.load(&self.shared, numbers).await
    }

    /// Counts how the session began, once.
    fn count_replay(&mut self) {
        let Some(replay) = self.replay.take() else { return };
        let metrics = &self.shared.metrics;
        metrics.session_resumes.of(replay.outcome()).inc();
        metrics.session_replayed.observe(f64::from(replay.notifications));
    }

    fn at(&self, number: u64) -> Position {
        Position::new(self.shared.epoch, number)
    }
}

impl Replay {
    fn note(&mut self, items: &[Item], head: u64) {
        for item in items {
            match *item {
                Item::Notification { number, .. } => self.notifications += u32::from(number <= head),
                Item::Gap { reason, .. } => self.lost |= reason == GapReason::Overflow,
            }
        }
    }

    fn outcome(&self) -> ResumeOutcome {
        match self {
            Self { foreign: true, .. } => ResumeOutcome::Foreign,
            Self { resumes: false, .. } => ResumeOutcome::Fresh,
            Self { lost: true, .. } => ResumeOutcome::Gap,
            Self { .. } => ResumeOutcome::Resumed,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.count_replay();
        self.shared.state.registry.detach(&self.key, self.handle.id());
        self.shared.metrics.sessions.of(self.transport).dec();
    }
}
