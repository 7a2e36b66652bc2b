//! How far the log is applied, and whether it still is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The last number that every shard has.
#[derive(Default)]
pub(crate) struct Applied {
    number: AtomicU64,
    moved: Notify,
    halted: CancellationToken,
    outdated: AtomicBool,
}

impl Applied {
    /// The last number that every shard has.
    pub(crate) fn get(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(crate) fn advance(&self, number: u64) {
        self.number.store(number, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Nothing will be applied any more.
    pub(crate) fn halt(&self) {
        self.halted.cancel();
    }

    /// Nothing will be, and what was applied does not hold any more: the log has become another one.
    pub(crate) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
        self.halt();
    }

    /// Whether what was applied does not hold any more.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// Whether nothing will be applied any more.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.is_cancelled()
    }

    /// Resolves once `number` is applied.
    pub(crate) async fn reached(&self, number: u64) {
        loop {
            // Registered before looking: an advance in between is not missed.
            let moved = self.moved.notified();
            if self.get() >= number {
                return;
            }
            moved.await;
        }
    }

    /// Whether `number` is applied before the time is over; `false` at once where nothing will be any more.
    pub(crate) async fn reached_within(&self, number: u64, timeout: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.reached(number) => true,
            () = self.halted.cancelled() => false,
            () = tokio::time::sleep(timeout) => false,
        }
    }
}
