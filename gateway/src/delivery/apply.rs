//! The state machine's door: the one place where entries become mailboxes.
//!
//! One task applies the log's entries in order. What it does depends on the entries alone: log time comes from their
//! timestamps, bounds from settings entries; no clock is read and nothing is encoded. *Applied* moves only once every shard
//! has the entry, and only then does the sender get its 202.

use std::sync::Arc;

use super::publish::Receipt;
use super::{Frame, Shared};
use crate::domain::{DropReason, Priority};
use crate::lifecycle::Lifecycle;
use crate::log::entry::{self, DecodeError, Entry, Publish};
use crate::log::{LogEntry, Tail};
use crate::metrics::Stage;
use crate::registry::{Arrival, Bounds, DeliverScratch, Registry};

/// Bytes of entries applied before others get a turn: some 10,000 recipients.
const YIELD_AFTER_BYTES: usize = 128 * 1024;

/// Applies entries to a registry.
pub struct StateMachine {
    log_time_ms: u64,
    bounds: Bounds,
    scratch: DeliverScratch,
}

/// What an entry did.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// A notification came to its recipients.
    Published {
        /// What the sender will be told.
        applied: Receipt,
        /// Notifications that overflow pushed out, one for each recipient.
        overflowed: u32,
    },
    /// Old entries were given up: so many notifications overflowed.
    GaveUp(u64),
    /// Nothing that concerns a sender.
    None,
}

/// What applying one entry did, expiry before it included.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Notifications that were due before the entry.
    pub expired: u64,
    /// What the entry itself did.
    pub effect: Effect,
}

impl StateMachine {
    /// A machine that has applied nothing.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { log_time_ms: 0, bounds, scratch: DeliverScratch::default() }
    }

    /// Applies one decoded entry to the registry.
    pub fn apply(&mut self, registry: &Registry, number: u64, timestamp_ms: u64, entry: &Entry) -> Step {
        // Log time never steps back, whatever the committer's clock does.
        self.log_time_ms = self.log_time_ms.max(timestamp_ms);
        let due = registry.next_due_ms().is_some_and(|due_ms| due_ms <= self.log_time_ms);
        let expired = if due { registry.expire(self.log_time_ms) } else { 0 };
        let effect = match entry {
            Entry::Publish(publish) => self.publish(registry, number, publish),
            Entry::Settings(settings) => {
                self.bounds = Bounds::from(settings);
                Effect::None
            }
            Entry::GiveUp { through } => Effect::GaveUp(registry.give_up(*through)),
            Entry::Tick => Effect::None,
        };
        Step { expired, effect }
    }

    fn publish(&mut self, registry: &Registry, number: u64, publish: &Publish) -> Effect {
        // Whole seconds: what expires together is looked for once.
        let expires_at_s = self.log_time_ms.div_ceil(1_000) + u64::from(publish.ttl_seconds);
        let arrival = Arrival {
            number,
            expires_at_ms: expires_at_s * 1_000,
            bytes: u32::try_from(publish.body.len()).expect("an entry is smaller than 4 GiB"),
            priority: publish.priority,
        };
        let delivered =
            registry.deliver(publish.recipients.iter(), &arrival, &self.bounds, &mut self.scratch);
        let applied = Receipt {
            number,
            recipients: delivered.accepted,
            online: delivered.online,
            rejected: delivered.rejected,
        };
        Effect::Published { applied, overflowed: delivered.overflowed }
    }
}

/// Follows the tail and applies what comes, until it is dropped.
///
/// Skipping an entry would be a silent hole: one that cannot be applied halts it, and the gateway is not ready any more. It
/// returns, and thereby stops the gateway, when the log cannot be followed.
pub(super) async fn run(shared: Arc<Shared>, mut tail: Box<dyn Tail>, lifecycle: Lifecycle) {
    let bounds = Bounds { max_count: 1, max_bytes: 0, policy: crate::registry::OverflowPolicy::DropOldest };
    let mut machine = StateMachine::new(bounds);
    loop {
        let entries = match tail.next().await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "the log cannot be followed any more");
                return;
            }
        };
        let mut work = 0;
        for entry in entries {
            work += entry.payload.len();
            if let Err(error) = apply_one(&shared, &mut machine, &entry) {
                tracing::error!(%error, number = entry.number, "an entry cannot be applied; not ready any more");
                lifecycle.set_not_ready();
                shared.applied.halt();
                // Sockets stay up and what is pending stays; only a build that knows the entry can go on.
                return std::future::pending().await;
            }
            if work > YIELD_AFTER_BYTES {
                work = 0;
                tokio::task::yield_now().await;
            }
        }
        // Sessions and senders that were woken get their turn before the next batch.
        tokio::task::yield_now().await;
    }
}

fn apply_one(shared: &Shared, machine: &mut StateMachine, entry: &LogEntry) -> Result<(), DecodeError> {
    let decoded = entry::decode(&entry.payload)?;
    let publish = if let Entry::Publish(publish) = &decoded { Some(publish) } else { None };
    let frame =
        publish.map(|publish| Frame::of_entry(&publish.body, publish.accepted_at_us, entry.payload.len()));
    // Before the mailboxes: whoever is woken finds the frame.
    shared.frames.push(entry.number, frame);
    let step = machine.apply(&shared.registry, entry.number, entry.timestamp_ms, &decoded);
    if let Entry::Settings(settings) = &decoded {
        let mut in_force = shared.settings.lock().expect("no code panics while it holds the settings");
        *in_force = Some((entry.number, settings.clone()));
    }
    shared.applied.advance(entry.number);
    shared.metrics.mailbox_expired.inc_by(step.expired);
    match step.effect {
        Effect::Published { applied, overflowed } => {
            let publish = publish.expect("only a publish entry has this effect");
            count(shared, publish.priority, &applied, overflowed);
            if applied.online > 0 {
                let waited_us = shared.clock.now_us().saturating_sub(publish.accepted_at_us);
                shared.metrics.push_latency.of(Stage::Queued).observe(waited_us as f64 / 1e6);
            }
            shared.waiters.complete(publish.id, applied);
        }
        Effect::GaveUp(overflowed) => {
            shared.metrics.mailbox_dropped.of(DropReason::Overflow).inc_by(overflowed);
        }
        Effect::None => {}
    }
    Ok(())
}

fn count(shared: &Shared, priority: Priority, applied: &Receipt, overflowed: u32) {
    let metrics = &shared.metrics;
    metrics.mailbox_enqueued.of(priority).inc_by(u64::from(applied.recipients));
    if overflowed > 0 {
        metrics.mailbox_dropped.of(DropReason::Overflow).inc_by(u64::from(overflowed));
    }
    if !applied.rejected.is_empty() {
        metrics.mailbox_dropped.of(DropReason::Rejected).inc_by(applied.rejected.len() as u64);
    }
}
