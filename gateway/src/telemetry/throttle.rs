//! A line that could be written thousands of times a second is written now and then.

use std::sync::atomic::{AtomicU64, Ordering};

/// The least time between two lines, in milliseconds, unless somebody says otherwise.
const PERIOD_MS: u64 = 1_000;

/// Lets one through now and then, and counts the rest.
#[derive(Debug)]
pub struct Throttle {
    period_ms: u64,
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::every(PERIOD_MS)
    }
}

impl Throttle {
    /// Lets one through in so many milliseconds.
    #[must_use]
    pub const fn every(period_ms: u64) -> Self {
        Self { period_ms, next_ms: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Whether to write the line now, and how many were held back since the last one.
    pub fn pass(&self, now_ms: u64) -> Option<u64> {
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        // A clock that stepped back must not silence anything for long.
        let due = now_ms >= next_ms || next_ms > now_ms + self.period_ms;
        let mine = due
            && self
                .next_ms
                .compare_exchange(next_ms, now_ms + self.period_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_the_others() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass(10_000), Some(0));
        assert_eq!((throttle.pass(10_000), throttle.pass(10_999)), (None, None));
        assert_eq!(throttle.pass(11_000), Some(2));
        assert_eq!(throttle.pass(11_001), None);
        assert_eq!(throttle.pass(3_000), Some(1), "the clock stepped back");
    }
}
