//! The only place that reads the wall clock.
//!
//! Layers below the edges take the time as an argument; whoever needs to ask for it holds a [`Clock`], which a test owns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
    Told(Told),
}

#[derive(Clone)]
struct Told(Arc<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Told")
    }
}

/// The hand that moves a manual clock.
#[derive(Debug, Clone)]
pub struct ClockHand(Arc<AtomicU64>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_us` until its hand is moved.
    #[must_use]
    pub fn manual(start_us: u64) -> (Self, ClockHand) {
        let now = Arc::new(AtomicU64::new(start_us));
        (Self(Source::Manual(Arc::clone(&now))), ClockHand(now))
    }

    /// A clock that asks its owner, in microseconds since the Unix epoch.
    #[must_use]
    pub fn told_by(owner: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Source::Told(Told(Arc::new(owner))))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        match &self.0 {
            Source::System => system_now_us(),
            Source::Manual(now) => now.load(Ordering::SeqCst),
            Source::Told(Told(owner)) => owner(),
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }
}

impl ClockHand {
    /// Moves the clock on, or back, to `now_us`.
    pub fn set(&self, now_us: u64) {
        self.0.store(now_us, Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
fn system_now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
