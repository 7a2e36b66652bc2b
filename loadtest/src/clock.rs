//! One clock for a run: microseconds since it began. Sender, receiver and pacer read the same one.

use std::time::{Duration, Instant};

/// A monotonic clock that starts at 0.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the load test asks what time it is"
    )]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("a run is shorter than half a million years")
    }

    /// Lets this thread sleep until so many microseconds after the start: finer than an asynchronous timer, whose grain is
    /// a millisecond. Returns at once when that is past.
    #[expect(clippy::disallowed_methods, reason = "the pacer waits for a time, not for an event")]
    pub fn sleep_until(&self, micros: u64) {
        let wait = micros.saturating_sub(self.now());
        if wait > 0 {
            std::thread::sleep(Duration::from_micros(wait));
        }
    }

    /// Waits until so many microseconds after the start, to the millisecond.
    pub async fn wait_until(&self, micros: u64) {
        tokio::time::sleep(Duration::from_micros(micros.saturating_sub(self.now()))).await;
    }
}
