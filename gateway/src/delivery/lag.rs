//! How far this node is behind a log that others write to as well.
//!
//! A node that does not come nearer to what the log held a while ago, or cannot ask the log, is not ready: sockets stay and get
//! what comes, but new ones are better off elsewhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Delivery, Shared};
use crate::lifecycle::Lifecycle;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// How long an answer waits for what other nodes have accepted before.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// What has to be applied for this node to be where the log was.
struct Lag {
    target: u64,
    since: Instant,
}

impl Delivery {
    /// Waits until everything is applied here that any node has accepted before this call, as far as that can be known, and not
    /// for ever. With a log of this node's own it always is.
    pub async fn catch_up(&self) {
        let shared = &self.shared;
        if !shared.log.durability().is_shared() {
            return;
        }
        // Where the log cannot be asked nothing is accepted anywhere: what is known here is told.
        if let Ok(Some(head)) = tokio::time::timeout(CATCH_UP_TIMEOUT, shared.heads.ask(shared)).await {
            let _ = shared.applied.reached_within(head, CATCH_UP_TIMEOUT).await;
        }
    }
}

/// Where the log ends, asked for many at once: a crowd is one question.
#[derive(Default)]
pub(crate) struct Heads {
    /// When the last question began, and its answer.
    last: tokio::sync::Mutex<Option<(Instant, Option<u64>)>>,
}

impl Heads {
    /// Where the log ended at some moment after this call.
    async fn ask(&self, shared: &Shared) -> Option<u64> {
        let called = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((begun, head)) = *last
            && begun > called
        {
            // Asked while this one waited for its turn.
            return head;
        }
        let begun = Instant::now();
        let head = shared.log.state().await.ok().map(|log| log.head);
        *last = Some((begun, head));
        head
    }
}

/// Watches how far this node is behind, until it is dropped.
pub(super) async fn watch(shared: Arc<Shared>, lifecycle: Lifecycle, timeout: Duration) -> Infallible {
    let mut lag = Lag { target: 0, since: Instant::now() };
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_behind = false;
    loop {
        period.tick().await;
        let asked = tokio::time::timeout(timeout, shared.log.state()).await;
        let head = asked.ok().and_then(Result::ok).map(|log| log.head);
        let applied = shared.applied.get();
        let behind_for = lag.note(applied, head);
        let metrics = &shared.metrics;
        metrics.log_reachable.set(i64::from(head.is_some()));
        metrics.log_lag_seconds.set(behind_for.as_secs_f64());
        let entries = head.unwrap_or(lag.target).saturating_sub(applied);
        metrics.log_lag_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        if is_behind == (behind_for > timeout) {
            continue;
        }
        is_behind = !is_behind;
        lifecycle.set_behind(is_behind);
        if is_behind {
            let reachable = head.is_some();
            tracing::error!(
                reachable,
                applied,
                head,
                "this node is behind the log; not ready until it is not"
            );
        } else {
            tracing::info!(applied, "this node has caught up with the log");
        }
    }
}

impl Lag {
    /// For how long this node has not reached what the log held.
    fn note(&mut self, applied: u64, head: Option<u64>) -> Duration {
        if let Some(head) = head
            && applied >= self.target
        {
            *self = Self { target: head, since: Instant::now() };
            return Duration::ZERO;
        }
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_behind_while_it_has_not_what_the_log_had() {
        let mut lag = Lag { target: 0, since: Instant::now() };
        let second = || tokio::time::advance(Duration::from_secs(1));
        assert_eq!(lag.note(0, Some(10)), Duration::ZERO);
        second().await;
        assert_eq!(lag.note(9, Some(20)), Duration::from_secs(1));
        second().await;
        assert_eq!(lag.note(10, Some(30)), Duration::ZERO, "it moves, as fast as others write");
        second().await;
        assert_eq!(lag.note(30, None), Duration::from_secs(1), "nobody knows");
        second().await;
        assert_eq!(lag.note(30, Some(30)), Duration::ZERO);
    }
}
