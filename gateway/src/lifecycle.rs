//! How the gateway starts, stops and notices that one of its tasks crashed.
//!
//! Stopping has three stages: *stopping* (not ready any more, sockets are told to leave, requests in flight end), *cut* (only if
//! somebody is in a hurry: goodbyes are broken off) and *ended* (essential tasks are dropped). Sessions and essential tasks are
//! on trackers of their own: the last acks of sessions still have to get into the log.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that has to know whether the gateway is about to stop. One pointer: every session holds it.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stopping: CancellationToken,
    cut: CancellationToken,
    ended: CancellationToken,
    sessions: TaskTracker,
    essential: TaskTracker,
    started: AtomicBool,
    halted: AtomicBool,
    stalled: AtomicBool,
    behind: AtomicBool,
    crashed: AtomicBool,
    outdated: AtomicBool,
    panics: AtomicU64,
}

/// Whether new senders and receivers are welcome, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// They are.
    Ready,
    /// The state is being rebuilt.
    Starting,
    /// The log takes too long for an append; this may pass.
    Stalled,
    /// This node does not come nearer to what the log holds, or cannot ask it; this may pass.
    Behind,
    /// The log holds what this build cannot apply; only another build can go on.
    Halted,
    /// The gateway is told to stop.
    Stopping,
}

impl Lifecycle {
    /// Nothing runs yet, nothing is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task the gateway cannot do without: if it panics, or returns a reason before the end, the gateway stops and
    /// says so.
    pub fn spawn_essential<R: Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = R> + Send + 'static,
    ) {
        let lifecycle = self.clone();
        let running = tokio::spawn({
            let ended = self.0.ended.clone();
            async move { ended.run_until_cancelled(task).await }
        });
        self.0.essential.spawn(async move {
            let reason = match running.await {
                Ok(None) => return,
                Ok(Some(reason)) => reason.to_string(),
                Err(_) => {
                    lifecycle.count_panic();
                    "it panicked".to_owned()
                }
            };
            if !lifecycle.0.ended.is_cancelled() {
                tracing::error!(task = name, reason, "the gateway cannot go on and stops");
                lifecycle.0.crashed.store(true, Ordering::SeqCst);
                lifecycle.stop();
            }
        });
    }

    /// Runs a task whose end concerns nobody else: a session. The end waits for it; a panic costs this task only, and is counted.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let lifecycle = self.clone();
        // Combinators, because the future of an async block would hold the task twice.
        self.0.sessions.spawn(AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                lifecycle.count_panic();
            }
        }));
    }

    /// Counts a panic that was caught where it cost one request or one session; the line about it comes from the panic hook.
    pub fn count_panic(&self) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Panics counted so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Everything is up: `/health/ready` answers 200 from now on.
    pub fn set_ready(&self) {
        self.0.started.store(true, Ordering::SeqCst);
    }

    /// Something essential cannot go on although the process lives: `/health/ready` answers 503 from now on.
    pub fn set_not_ready(&self) {
        self.0.halted.store(true, Ordering::SeqCst);
    }

    /// Whether the log holds what this build cannot apply.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.halted.load(Ordering::SeqCst)
    }

    /// Whether the log takes too long: while it does, `/health/ready` answers 503.
    pub fn set_stalled(&self, stalled: bool) {
        self.0.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Whether the log takes too long for an append.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::SeqCst)
    }

    /// Whether this node is behind the log: while it is, `/health/ready` answers 503.
    pub fn set_behind(&self, behind: bool) {
        self.0.behind.store(behind, Ordering::SeqCst);
    }

    /// What was computed from the log has to be computed anew: the gateway stops, to be started again by whoever runs it.
    pub fn start_over(&self) {
        self.0.outdated.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Whether it stops to be started again.
    #[must_use]
    pub fn starts_over(&self) -> bool {
        self.0.outdated.load(Ordering::SeqCst)
    }

    /// Whether new work is welcome, and why not: the reason that matters most.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        if self.is_stopping() {
            Readiness::Stopping
        } else if is(&self.0.halted) {
            Readiness::Halted
        } else if !is(&self.0.started) {
            Readiness::Starting
        } else if is(&self.0.stalled) {
            Readiness::Stalled
        } else if is(&self.0.behind) {
            Readiness::Behind
        } else {
            Readiness::Ready
        }
    }

    /// Whether new work is welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness() == Readiness::Ready
    }

    /// Enters the first stage.
    pub fn stop(&self) {
        self.0.stopping.cancel();
    }

    /// Whether the first stage was entered.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Resolves when the first stage is entered.
    pub async fn stopping(&self) {
        self.0.stopping.cancelled().await;
    }

    /// Breaks off every goodbye.
    pub fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Resolves when goodbyes are to be broken off.
    pub async fn cutting(&self) {
        self.0.cut.cancelled().await;
    }

    /// Tasks of sessions that have not ended, those that only say why they were refused included.
    #[must_use]
    pub fn sessions_left(&self) -> usize {
        self.0.sessions.len()
    }

    /// Resolves when no task of a session is left.
    pub async fn sessions_ended(&self) {
        self.0.sessions.close();
        self.0.sessions.wait().await;
    }

    /// Ends the essential tasks and waits at most `timeout` for every task; returns whether all of them ended.
    pub async fn end(&self, timeout: Duration) -> bool {
        self.stop();
        self.0.ended.cancel();
        self.0.essential.close();
        let all = async { tokio::join!(self.sessions_ended(), self.0.essential.wait()) };
        tokio::time::timeout(timeout, all).await.is_ok()
    }

    /// Whether an essential task ended before it should.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.0.crashed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn doomed() -> Infallible {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn an_essential_task_that_panics_stops_the_gateway() {
        let lifecycle = Lifecycle::new();
        lifecycle.set_ready();
        lifecycle.spawn_essential("doomed", doomed());
        lifecycle.stopping().await;
        assert!(lifecycle.has_crashed());
        assert!(!lifecycle.is_ready());
        assert_eq!(lifecycle.panics(), 1);
    }

    #[tokio::test]
    async fn the_end_cancels_essential_tasks_without_calling_it_a_crash() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_essential("endless", std::future::pending::<Infallible>());
        assert!(lifecycle.end(Duration::from_secs(5)).await);
        assert!(!lifecycle.has_crashed());
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_reported() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn(std::future::pending());
        assert!(!lifecycle.end(Duration::from_millis(10)).await);
        assert_eq!(lifecycle.sessions_left(), 1);
    }

    #[tokio::test]
    async fn a_session_that_panics_is_counted_and_costs_nobody_else() {
        let lifecycle = Lifecycle::new();
        lifecycle.set_ready();
        lifecycle.spawn(async { panic!("on purpose") });
        lifecycle.spawn(async {});
        lifecycle.sessions_ended().await;
        assert_eq!(lifecycle.panics(), 1);
        assert!(lifecycle.is_ready() && !lifecycle.has_crashed());
    }

    #[test]
    fn the_reason_that_lasts_longest_is_the_one_that_is_told() {
        let lifecycle = Lifecycle::new();
        assert_eq!(lifecycle.readiness(), Readiness::Starting);
        lifecycle.set_ready();
        assert_eq!(lifecycle.readiness(), Readiness::Ready);
        lifecycle.set_stalled(true);
        assert_eq!(lifecycle.readiness(), Readiness::Stalled);
        lifecycle.set_not_ready();
        assert_eq!(lifecycle.readiness(), Readiness::Halted);
        lifecycle.set_stalled(false);
        assert_eq!(lifecycle.readiness(), Readiness::Halted);
        lifecycle.stop();
        assert_eq!(lifecycle.readiness(), Readiness::Stopping);
    }
}
