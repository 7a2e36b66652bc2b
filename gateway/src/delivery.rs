//! The use cases: publish, subscribe, look at a user, disconnect one.
//!
//! One path leads through it: a publisher encodes an entry and hands it to the committer; the log orders it; the applying
//! task reads the log's tail and is the only one that changes mailboxes; sessions pull. [`Delivery`] is the handle that the
//! edges (HTTP, sockets) hold. Nothing here knows of either.

mod acks;
mod applied;
mod apply;
mod broadcast;
mod carry;
mod commit;
mod elsewhere;
mod fetch;
mod follow;
mod frames;
mod horizon;
mod idempotency;
mod lag;
mod manage;
mod outcomes;
mod publish;
mod publish_span;
mod retention;
mod state;
mod subscribe;
mod topics;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{Epoch, Position, UserId};
use crate::lifecycle::Lifecycle;
use crate::log::entry::{Settings, encode_settings};
use crate::log::{Log, NewEntry, ReadError, TailError};
use crate::metrics::{Metrics, Remembered, Transport};
use crate::protocol::CloseCode;
use crate::telemetry::Tracing;
use applied::Applied;
use commit::Stalls;
use follow::{FollowError, Follower};

pub use crate::registry::{SessionHandle, Totals, UserChanges, UserSummary};
pub use acks::AckError;
pub use apply::{Effect, Receipt, StateMachine};
pub use broadcast::Broadcasts;
pub use carry::{Carried, CarryError, carry};
pub use commit::Committer;
pub use elsewhere::Elsewhere;
pub use frames::{Frame, FrameCache};
pub use horizon::Horizon;
pub use idempotency::{First, Idempotency};
pub use manage::{ChangeError, Membership, OutcomeError, OutcomeReport};
pub use outcomes::{NoReport, Outcomes, Report};
pub use publish::{Accepted, PublishError, encode};
pub use state::State;
pub use subscribe::{After, FrameSink, Page, Pull, SubscribeError, Subscription};
pub use topics::{CannotJoin, Members, Refused, Topics};

/// How long the settings may take from the log to being applied.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a digest is computed again that others applied entries under.
const DIGEST_ATTEMPTS: usize = 10;

/// How the delivery works, apart from what goes through the log as [`Settings`].
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// What apply depends on.
    pub settings: Settings,
    /// The process said them before: what is in force stays.
    pub starts_over: bool,
    /// Bytes of recent frames kept in memory.
    pub frame_cache_bytes: u64,
    /// Sessions a user may hold.
    pub max_sessions_per_user: usize,
    /// How often the log is looked after; also the least time between two ticks.
    pub retention_period: Duration,
    /// How long one append may take before the gateway says that it is not ready.
    pub stall_timeout: Duration,
    /// Where spans are recorded.
    pub tracing: Tracing,
    /// What is known of users on other nodes, if there may be others.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// The handle that the edges hold; cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
    committer: Committer,
}

/// What every part of the delivery works on.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) epoch: Epoch,
    pub(crate) state: State,
    pub(crate) frames: FrameCache,
    pub(crate) broadcasts: Broadcasts,
    pub(crate) applied: Applied,
    pub(crate) waiters: publish::Waiters,
    pub(crate) in_flight: idempotency::InFlight,
    pub(crate) acks: acks::Acks,
    pub(crate) heads: lag::Heads,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) tracing: Tracing,
    pub(crate) next_session: AtomicU64,
    pub(crate) max_sessions_per_user: usize,
}

/// Why the delivery could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The log is not what it was a moment ago: to be started again.
    #[error("the log is not what it was: {0}")]
    Changed(String),
    /// The log has no beginning, or could not take the settings.
    #[error("the log cannot be used: {0}")]
    Unusable(String),
}

impl From<FollowError> for StartError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Tail(error @ (TailError::Changed(_) | TailError::Trimmed { .. })) => {
                Self::Changed(error.to_string())
            }
            error => Self::Unusable(error.to_string()),
        }
    }
}

impl Delivery {
    /// Rebuilds the state from the log and starts the tasks that keep it going.
    ///
    /// Resolves once everything in the log is applied and the settings are in force.
    ///
    /// # Errors
    /// [`StartError`] when the log cannot be read or written.
    pub async fn start(
        log: Arc<dyn Log>,
        options: DeliveryOptions,
        clock: Clock,
        metrics: Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let state = log.state().await?;
        let shared = Arc::new(Shared {
            log: Arc::clone(&log),
            epoch: state.epoch,
            state: State::new(),
            frames: FrameCache::new(options.frame_cache_bytes),
            broadcasts: Broadcasts::default(),
            applied: Applied::default(),
            waiters: publish::Waiters::default(),
            in_flight: idempotency::InFlight::default(),
            acks: acks::Acks::default(),
            heads: lag::Heads::default(),
            metrics,
            clock,
            tracing: options.tracing.clone(),
            next_session: AtomicU64::new(1),
            max_sessions_per_user: options.max_sessions_per_user,
        });
        shared.applied.advance(state.first - 1);
        let tail = log.tail(state.first - 1).map_err(FollowError::from)?;
        let mut follower = Follower::new(Arc::clone(&shared), tail, state.head, options.elsewhere.clone());
        match follower.rebuild().await {
            // Another build may be there already, and write: this one waits to be replaced, and says so.
            Err(error @ FollowError::Entry { .. }) if log.durability().is_shared() => {
                follower.halt(&error, lifecycle);
            }
            rebuilt => rebuilt?,
        }
        let (committer, queue) = Committer::new(lifecycle.clone());
        let stalls = Stalls { timeout: options.stall_timeout, lifecycle: lifecycle.clone() };
        let committing = commit_and_follow(Arc::clone(&shared), queue, follower, stalls);
        lifecycle.spawn_essential("log", committing);
        // They enter the log when they change, so that every node applies the same. Who merely starts over has said them: another
        // node's may have come since.
        let in_force = shared.state.settings();
        let is_other = |in_force: &Settings| !options.starts_over && *in_force != options.settings;
        if !shared.applied.is_halted() && in_force.is_none_or(|(_, in_force)| is_other(&in_force)) {
            let appended = committer.append(NewEntry::housekeeping(encode_settings(&options.settings))).await;
            let number = appended.map_err(|error| match lifecycle.starts_over() {
                true => StartError::Changed(error.to_string()),
                false => StartError::Unusable(error.to_string()),
            })?;
            if !shared.applied.reached_within(number, SETTINGS_TIMEOUT).await {
                return Err(StartError::Changed("the settings were appended and are not applied".to_owned()));
            }
        }
        let retention = retention::run(Arc::clone(&shared), committer.clone(), options.retention_period);
        lifecycle.spawn_essential("retention", retention);
        if log.durability().is_shared() {
            let watching = lag::watch(Arc::clone(&shared), lifecycle.clone(), options.stall_timeout);
            lifecycle.spawn_essential("lag", watching);
        }
        lifecycle.spawn_essential("acks", acks::run(Arc::clone(&shared), committer.clone()));
        Ok(Self { shared, committer })
    }

    /// The position of `number` in this log.
    #[must_use]
    pub fn position(&self, number: u64) -> Position {
        Position::new(self.shared.epoch, number)
    }

    /// The time that notifications are stamped with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Where spans are recorded.
    #[must_use]
    pub fn tracing(&self) -> &Tracing {
        &self.shared.tracing
    }

    /// What is known of a user.
    #[must_use]
    pub fn user(&self, user: &UserId) -> UserSummary {
        self.shared.state.registry.summary(user.as_str(), self.shared.applied.get())
    }

    /// Sums over all users, cheap enough to be asked for every second.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.state.registry.totals()
    }

    /// Closes every session of a user with 4010 and returns how many there were.
    #[must_use]
    pub fn disconnect(&self, user: &UserId) -> usize {
        let sessions = self.shared.state.registry.sessions_of(user.as_str());
        for session in &sessions {
            session.close(CloseCode::Disconnected);
        }
        sessions.len()
    }

    /// Asks every session to leave with `code`.
    pub fn close_all_sessions(&self, code: CloseCode) {
        for session in self.shared.state.registry.all_sessions() {
            session.close(code);
        }
    }

    /// Appends the acks that were gathered, before a stop.
    pub async fn flush_acks(&self) {
        acks::flush(&self.shared, &self.committer).await;
    }

    /// The epoch, the last number that was applied, and the digest of the state. Meant for when nothing is applied: otherwise it
    /// is asked again until the number did not change meanwhile, but not for ever.
    #[must_use]
    pub fn digest(&self) -> (Epoch, u64, [u8; 32]) {
        let mut applied = self.shared.applied.get();
        let mut digest = self.shared.state.digest();
        for _ in 0..DIGEST_ATTEMPTS {
            let now = self.shared.applied.get();
            if now == applied {
                break;
            }
            applied = now;
            digest = self.shared.state.digest();
        }
        (self.shared.epoch, applied, digest)
    }

    /// Brings what is counted at scrape time up to date.
    pub fn refresh_metrics(&self) {
        let stats = self.shared.state.registry.stats();
        let metrics = &self.shared.metrics;
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.mailbox_depth.set(gauge(stats.pending));
        metrics.mailbox_bytes.set(gauge(stats.pending_bytes));
        if let Some((_, bounds)) = self.shared.state.settings() {
            // A mailbox is as full as the bound that it comes nearer to.
            let count = stats.high_watermark as f64 / f64::from(bounds.mailbox_max_count);
            let bytes = stats.high_watermark_bytes as f64 / bounds.mailbox_max_bytes as f64;
            metrics.mailbox_high_watermark.set(count.max(bytes));
        }
        metrics.users.set(gauge(stats.totals.online_users));
        metrics.known_users.set(gauge(stats.totals.known_users));
        let (topics, memberships) = self.shared.state.topics().counts();
        metrics.topics.set(gauge(topics as u64));
        metrics.memberships.set(gauge(memberships));
        let (keys, outcomes) = (self.shared.state.idempotency().len(), self.shared.state.outcomes().len());
        metrics.remembered.of(Remembered::IdempotencyKeys).set(gauge(keys as u64));
        metrics.remembered.of(Remembered::Outcomes).set(gauge(outcomes as u64));
        let ledger = stats.totals.ledger;
        metrics.set_ledger(ledger.accepted, ledger.ended(), stats.imbalance);
    }
}

impl Shared {
    /// Sessions on this node.
    pub(crate) fn connected(&self) -> u32 {
        let sessions = [Transport::WebSocket, Transport::ServerSentEvents]
            .map(|transport| self.metrics.sessions.of(transport).get());
        u32::try_from(sessions.iter().sum::<i64>()).unwrap_or(0)
    }
}

/// Appends and applies in one task: what is appended is applied in the same turn, without waking another thread.
///
/// Ends when the log cannot be followed any more, and says why. Whoever waits is told then that nobody can tell.
async fn commit_and_follow(
    shared: Arc<Shared>,
    queue: commit::Queue,
    follower: Follower,
    stalls: Stalls,
) -> TailError {
    let lifecycle = stalls.lifecycle.clone();
    let error = tokio::select! {
        biased;
        // Ends with the last handle only: then there is nobody left to tell.
        () = commit::commit(Arc::clone(&shared), queue, stalls) => return std::future::pending().await,
        error = follower.run(lifecycle.clone()) => error,
    };
    shared.waiters.abandon(&error.to_string());
    let is_trimmed = matches!(error, TailError::Trimmed { .. }) && shared.log.durability().is_shared();
    if is_trimmed || matches!(error, TailError::Changed(_)) {
        // Nothing is applied or pushed any more; sessions leave, and come back to what holds then.
        shared.applied.outdate();
        lifecycle.start_over();
        return std::future::pending().await;
    }
    error
}

#[cfg(test)]
mod tests;
