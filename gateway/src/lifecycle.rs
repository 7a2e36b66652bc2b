//! How the gateway starts, stops and notices that one of its tasks crashed.
//!
//! Stopping has two stages: *stopping* (not ready any more, sockets are told to leave, requests in flight end) and *ended*
//! (whatever still runs is dropped). Every long-lived task is on one tracker, so that the end waits for all of them.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that has to know whether the gateway is about to stop.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
    ready: Arc<AtomicBool>,
    crashed: Arc<AtomicBool>,
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
            let ended = self.ended.clone();
            async move { ended.run_until_cancelled(task).await }
        });
        self.tasks.spawn(async move {
            let reason = match running.await {
                Ok(None) => return,
                Ok(Some(reason)) => reason.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            if !lifecycle.ended.is_cancelled() {
                tracing::error!(task = name, reason, "the gateway cannot go on and stops");
                lifecycle.crashed.store(true, Ordering::SeqCst);
                lifecycle.stop();
            }
        });
    }

    /// Runs a task whose end concerns nobody else, a session for example. The end waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Everything is up: `/health/ready` answers 200 from now on.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
    }

    /// Something essential cannot go on although the process lives: `/health/ready` answers 503 from now on.
    pub fn set_not_ready(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    /// Whether new work is welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) && !self.is_stopping()
    }

    /// Enters the first stage.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Whether the first stage was entered.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves when the first stage is entered.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Ends the essential tasks and waits at most `timeout` for every task; returns whether all of them ended.
    pub async fn end(&self, timeout: Duration) -> bool {
        self.stopping.cancel();
        self.ended.cancel();
        self.tasks.close();
        tokio::time::timeout(timeout, self.tasks.wait()).await.is_ok()
    }

    /// Whether an essential task ended before it should.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
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
    }
}
