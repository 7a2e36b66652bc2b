//! Following the log: what its tail shows is decoded, applied, and told to whoever waits for it.
//!
//! *Applied* moves only once every shard has the entry, and only then does the sender get its 202.

use std::sync::Arc;

use super::apply::{Effect, StateMachine};
use super::{Elsewhere, Frame, Shared};
use crate::lifecycle::Lifecycle;
use crate::log::entry::{self, DecodeError, Entry, Names, Publish, Recipients};
use crate::log::{LogEntry, Tail, TailError};
use crate::metrics::Stage;
use crate::protocol::CloseCode;

/// Work done before others get a turn, in bytes of entries: some 10,000 recipients.
const YIELD_AFTER: usize = 128 * 1024;

/// What a recipient counts as: one of a topic stands in no entry.
const RECIPIENT_WORK: usize = 12;

/// While the state is rebuilt, progress is reported each time so many entries were applied.
const PROGRESS_ENTRIES: u64 = 500_000;

/// A place in the log, and the state that was computed up to there.
pub(super) struct Follower {
    shared: Arc<Shared>,
    machine: StateMachine,
    tail: Box<dyn Tail>,
    /// Up to here the state is rebuilt: nobody waits, and nothing is counted as if it happened now.
    rebuilt_at: u64,
}

/// Why the log cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// Its tail ended.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// Skipping an entry would be a silent hole.
    #[error("entry {number} cannot be applied: {error}")]
    Entry { number: u64, error: DecodeError },
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        tail: Box<dyn Tail>,
        rebuilt_at: u64,
        elsewhere: Option<Arc<dyn Elsewhere>>,
    ) -> Self {
        Self { shared, machine: StateMachine::beside(elsewhere), tail, rebuilt_at }
    }

    /// Applies what the log already held.
    pub(super) async fn rebuild(&mut self) -> Result<(), FollowError> {
        while self.shared.applied.get() < self.rebuilt_at {
            self.step().await?;
        }
        Ok(())
    }

    /// Follows the tail and applies what comes, until it is dropped. Returns, and thereby stops the gateway, when the log
    /// cannot be followed.
    ///
    /// An entry that cannot be applied halts it instead: the gateway is not ready any more, sockets stay up and what is
    /// pending stays; only a build that knows the entry can go on.
    pub(super) async fn run(mut self, lifecycle: Lifecycle) -> TailError {
        while !self.shared.applied.is_halted() {
            match self.step().await {
                Ok(()) => {}
                Err(FollowError::Tail(error)) => return error,
                Err(error @ FollowError::Entry { .. }) => self.halt(&error, &lifecycle),
            }
        }
        std::future::pending().await
    }

    /// Goes no further, for ever.
    pub(super) fn halt(&self, why: &FollowError, lifecycle: &Lifecycle) {
        tracing::error!(error = %why, "the log cannot be followed; not ready any more");
        lifecycle.set_not_ready();
        self.shared.applied.halt();
        self.shared.waiters.abandon(&why.to_string());
    }

    /// Applies the next entries of the tail.
    async fn step(&mut self) -> Result<(), FollowError> {
        let entries = self.tail.next().await?;
        let mut work = 0;
        for entry in entries {
            let number = entry.number;
            let live = number > self.rebuilt_at;
            let recipients = apply_one(&self.shared, &mut self.machine, &entry, live)
                .map_err(|error| FollowError::Entry { number, error })?;
            work += entry.payload.len() + recipients as usize * RECIPIENT_WORK;
            if !live && number.is_multiple_of(PROGRESS_ENTRIES) {
                tracing::info!(applied = number, of = self.rebuilt_at, "rebuilding the state from the log");
            }
            if work > YIELD_AFTER {
                work = 0;
                tokio::task::yield_now().await;
            }
        }
        // Sessions and senders that were woken get their turn before the next batch.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Applies an entry and returns to how many mailboxes it came.
fn apply_one(
    shared: &Shared,
    machine: &mut StateMachine,
    entry: &LogEntry,
    live: bool,
) -> Result<u32, DecodeError> {
    let decoded = entry::decode(&entry.payload)?;
    let publish = if let Entry::Publish(publish) = &decoded { Some(publish) } else { None };
    let frame = publish.map(|publish| {
        let applied_at_us = publish.trace.filter(|_| live).map(|_| shared.clock.now_us());
        Frame::of_publish(shared, publish, entry.payload.len(), applied_at_us)
    });
    let trace = frame.as_ref().and_then(|frame| frame.trace.clone());
    let broadcast =
        publish.filter(|publish| live && publish.recipients == Recipients::Everybody).and(frame.clone());
    // Before the mailboxes: whoever is woken finds the frame.
    shared.frames.push(entry.number, frame);
    let effect = machine.apply(&shared.state, entry.number, entry.timestamp_ms, &decoded);
    if let (Some(frame), Effect::Published(_)) = (broadcast, &effect) {
        shared.broadcasts.push(frame);
        shared.state.registry.all_sessions().iter().for_each(|session| session.wake());
    }
    if let Entry::ForgetUser { user } = &decoded
        && live
    {
        // Every node closes its own, whichever was asked.
        for session in shared.state.registry.sessions_of(Names::text(user)) {
            session.close(CloseCode::Disconnected);
        }
    }
    shared.applied.advance(entry.number);
    let recipients = if let Effect::Published(receipt) = &effect { receipt.recipients } else { 0 };
    if let Some(publish) = publish
        && live
    {
        if let Effect::Published(receipt) = &effect {
            count(shared, publish, receipt.recipients, receipt.online_here);
            // Those of a batch would be a crowd of their own.
            if let Some(trace) = trace
                && publish.trace.is_some_and(|trace| trace.notifications == 1)
            {
                shared.tracing.fan_out(&trace, receipt.online_here, shared.clock.now_us());
            }
        }
        shared.waiters.complete(publish.id, effect);
    }
    Ok(recipients)
}

fn count(shared: &Shared, publish: &Publish, recipients: u32, online: u32) {
    if publish.recipients != Recipients::Everybody {
        shared.metrics.mailbox_enqueued.of(publish.priority).inc_by(u64::from(recipients));
    }
    if online > 0 {
        let waited_us = shared.clock.now_us().saturating_sub(publish.accepted_at_us);
        let (queued, seconds) = (shared.metrics.push_latency.of(Stage::Queued), waited_us as f64 / 1e6);
        match publish.trace {
            Some(trace) => queued.observe_traced(seconds, trace.context, publish.accepted_at_us + waited_us),
            None => queued.observe(seconds),
        }
    }
}
