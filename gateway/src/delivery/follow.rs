//! Following the log: what its tail shows is decoded, applied, and told to whoever waits for it.
//!
//! *Applied* moves only once every shard has the entry, and only then does the sender get its 202.

use std::sync::Arc;

use super::apply::{Effect, StateMachine};
use super::{Frame, Shared};
use crate::lifecycle::Lifecycle;
use crate::log::entry::{self, DecodeError, Entry, Publish, Recipients};
use crate::log::{LogEntry, Tail};
use crate::metrics::Stage;

/// Bytes of entries applied before others get a turn: some 10,000 recipients.
const YIELD_AFTER_BYTES: usize = 128 * 1024;

/// While the state is rebuilt, progress is reported each time so many entries were applied.
const PROGRESS_ENTRIES: u64 = 500_000;

/// Follows the tail and applies what comes, until it is dropped. Up to `rebuilt_at` the state is rebuilt: nobody waits, and
/// nothing is counted as if it happened now.
///
/// Skipping an entry would be a silent hole: one that cannot be applied halts it, and the gateway is not ready any more. It
/// returns, and thereby stops the gateway, when the log cannot be followed.
pub(super) async fn run(shared: Arc<Shared>, mut tail: Box<dyn Tail>, rebuilt_at: u64, lifecycle: Lifecycle) {
    let mut machine = StateMachine::new();
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
            let live = entry.number > rebuilt_at;
            if let Err(error) = apply_one(&shared, &mut machine, &entry, live) {
                tracing::error!(%error, number = entry.number, "an entry cannot be applied; not ready any more");
                lifecycle.set_not_ready();
                shared.applied.halt();
                // Sockets stay up and what is pending stays; only a build that knows the entry can go on.
                return std::future::pending().await;
            }
            if !live && (entry.number % PROGRESS_ENTRIES == 0) {
                tracing::info!(applied = entry.number, of = rebuilt_at, "rebuilding the state from the log");
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

fn apply_one(
    shared: &Shared,
    machine: &mut StateMachine,
    entry: &LogEntry,
    live: bool,
) -> Result<(), DecodeError> {
    let decoded = entry::decode(&entry.payload)?;
    let publish = if let Entry::Publish(publish) = &decoded { Some(publish) } else { None };
    let frame =
        publish.map(|publish| Frame::of_entry(&publish.body, publish.accepted_at_us, entry.payload.len()));
    if let (Some(publish), Some(frame)) = (publish, &frame)
        && publish.recipients == Recipients::Everybody
        && live
    {
        shared.broadcasts.push(frame.clone());
    }
    // Before the mailboxes: whoever is woken finds the frame.
    shared.frames.push(entry.number, frame);
    let effect = machine.apply(&shared.state, entry.number, entry.timestamp_ms, &decoded);
    shared.applied.advance(entry.number);
    if let Some(publish) = publish
        && live
    {
        if let Effect::Published(receipt) = &effect {
            count(shared, publish, receipt.recipients, receipt.online);
        }
        shared.waiters.complete(publish.id, effect);
    }
    Ok(())
}

fn count(shared: &Shared, publish: &Publish, recipients: u32, online: u32) {
    if publish.recipients != Recipients::Everybody {
        shared.metrics.mailbox_enqueued.of(publish.priority).inc_by(u64::from(recipients));
    }
    if online > 0 {
        let waited_us = shared.clock.now_us().saturating_sub(publish.accepted_at_us);
        shared.metrics.push_latency.of(Stage::Queued).observe(waited_us as f64 / 1e6);
    }
}
