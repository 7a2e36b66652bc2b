//! A gateway's life from its first request to the end of its log.
//!
//! The stop, in order: not ready; sockets are told when to come back, sent what waits for them, asked for their last acks and
//! closed; requests in flight are answered; the last acks go into the log; the log is closed. Whoever is not done at the deadline,
//! or when somebody is in a hurry, is cut; the log is closed in order all the same.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::listening::{forget_addresses, serve};
use super::{App, RunError};
use crate::delivery::Delivery;
use crate::lifecycle::Lifecycle;
use crate::listener::HangUps;
use crate::metrics::Metrics;
use crate::protocol::CloseCode;

/// How long the last acks may take into the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the log may take to close. What was accepted is safe before that.
const CLOSE_LOG_TIMEOUT: Duration = Duration::from_secs(2);

/// What the tasks get to end, and the operator's connections, even when requests took the whole time.
pub(super) const MIN_END_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a stream of events gets for its goodbye if its client takes no bytes; sockets have as much.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);

type Serving = JoinHandle<std::io::Result<()>>;

impl App {
    /// Serves until `shutdown` resolves, then stops in order: not ready any more, sockets told to come back later,
    /// requests in flight ended, tasks ended.
    ///
    /// # Errors
    /// [`RunError`] when the gateway crashed, or something did not end within `shutdown.timeout` and was cut.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.run_until_cut(shutdown, std::future::pending()).await
    }

    /// Like [`App::run_until`], for somebody who may lose patience: once `cut` resolves, a stop waits for nobody.
    ///
    /// # Errors
    /// Those of [`App::run_until`].
    pub async fn run_until_cut(
        self,
        shutdown: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let Self {
            config,
            public,
            operators,
            tls,
            hang_ups,
            clients,
            delivery,
            presence,
            lifecycle,
            metrics,
            ..
        } = self;
        let patience = config.shutdown.timeout;
        let (listener, endpoint) = public;
        lifecycle.set_ready();
        lifecycle.spawn_essential("addresses", forget_addresses(clients));
        let serving = match tls {
            None => {
                tokio::spawn(serve(listener, endpoint, &config, Arc::clone(&hang_ups), &metrics, &lifecycle))
            }
            Some(tls) => {
                let encrypted = tls.on(listener, Arc::clone(&metrics));
                tokio::spawn(serve(encrypted, endpoint, &config, Arc::clone(&hang_ups), &metrics, &lifecycle))
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = lifecycle.stopping() => {}
        }
        let impatience = CancellationToken::new();
        let hurry = async {
            cut.await;
            impatience.cancel();
            std::future::pending::<Infallible>().await
        };
        let drain = Drain { patience, impatience: &impatience, hang_ups: &hang_ups };
        let stop = async {
            let served = drain.run(serving, &delivery, &lifecycle, &metrics).await;
            // What does not get into the log comes again: a disk that hangs must not hold up the end.
            tokio::select! {
                _ = timeout(FLUSH_TIMEOUT, delivery.flush_acks()) => {}
                () = impatience.cancelled(), if served.is_some() => {}
            }
            presence.leave().await;
            let ended = lifecycle.end(MIN_END_TIMEOUT).await;
            drop(presence);
            // Operators can watch the stop: their listener goes last.
            (served, ended, operators.end().await)
        };
        let (served, ended, served_operators) = tokio::select! {
            result = stop => result,
            never = hurry => match never {},
        };
        refresh_metrics(&metrics, &lifecycle);
        audit(&delivery, &metrics);
        close_log(delivery).await;

        let crashed = lifecycle.has_crashed() || served == Some(false) || !served_operators;
        match (crashed, ended && served.is_some()) {
            _ if lifecycle.starts_over() => Err(RunError::Outdated),
            (true, _) => Err(RunError::Crashed),
            (false, false) => Err(RunError::Unfinished),
            (false, true) => Ok(()),
        }
    }
}

/// Brings up to date what the stop and panics are watched by.
pub(super) fn refresh_metrics(metrics: &Metrics, lifecycle: &Lifecycle) {
    metrics.ready.set(i64::from(lifecycle.is_ready()));
    metrics.panics.inc_by(lifecycle.panics().saturating_sub(metrics.panics.get()));
    let remaining = if lifecycle.is_stopping() { lifecycle.sessions_left() } else { 0 };
    metrics.drain_remaining.set(i64::try_from(remaining).unwrap_or(i64::MAX));
}

/// How a stop waits for others.
struct Drain<'a> {
    /// How long it waits.
    patience: Duration,
    /// Cancelled when it shall wait no longer.
    impatience: &'a CancellationToken,
    hang_ups: &'a HangUps,
}

impl Drain<'_> {
    /// Tells everybody to leave and waits until all have left; returns whether the server ended well, `None` if some had to be
    /// cut.
    async fn run(
        &self,
        mut serving: Serving,
        delivery: &Delivery,
        lifecycle: &Lifecycle,
        metrics: &Metrics,
    ) -> Option<bool> {
        let deadline = Instant::now() + self.patience;
        lifecycle.stop();
        metrics.draining.set(1);
        delivery.close_all_sessions(CloseCode::Drain);
        let leaving = async {
            let served = (&mut serving).await;
            lifecycle.sessions_ended().await;
            matches!(served, Ok(Ok(())))
        };
        let streams = async {
            tokio::time::sleep(STREAM_TIMEOUT).await;
            self.hang_ups.cut();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            served = leaving => return Some(served),
            () = self.impatience.cancelled() => {}
            () = tokio::time::sleep_until(deadline) => {}
            never = streams => match never {},
        }
        let sessions = lifecycle.sessions_left();
        tracing::warn!(sessions, "not everybody left in time: sessions and requests that are left are cut");
        lifecycle.cut();
        if self.impatience.is_cancelled() {
            // Connections go with the process.
            serving.abort();
        } else {
            // It cuts them itself.
            let _ = timeout(MIN_END_TIMEOUT, serving).await;
        }
        // Those who hang in a read of the log go with the process, too.
        let _ = timeout(MIN_END_TIMEOUT, lifecycle.sessions_ended()).await;
        None
    }
}

/// Closes the books: what was accepted is pending or final, to the last one.
fn audit(delivery: &Delivery, metrics: &Metrics) {
    delivery.refresh_metrics();
    let imbalance = metrics.ledger_imbalance.get();
    if imbalance != 0 {
        tracing::error!(imbalance, "the ledger does not balance: this is a bug of the gateway");
    }
    debug_assert_eq!(imbalance, 0, "the ledger does not balance");
}

/// Lets go of the log, which closes it unless somebody who was cut still holds it. It waits for the disk, so not for ever.
async fn close_log(delivery: Delivery) {
    let closing = tokio::task::spawn_blocking(move || drop(delivery));
    if timeout(CLOSE_LOG_TIMEOUT, closing).await.is_err() {
        tracing::warn!("the log does not close, its disk hangs; what was accepted is on it");
    }
}
