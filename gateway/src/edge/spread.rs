//! What thousands of sessions must not do at the same moment: beat, and come back after a restart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::protocol::CloseCode;

/// 2^64 divided by the golden ratio: multiples of it fill a range evenly, however many there are.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Heartbeats come within this share of their period, before or after.
const JITTER_PERCENT: u64 = 20;

/// When clients shall come back: the next one always where the largest hole is.
pub struct ReconnectAdvice {
    after_ms: u64,
    window_ms: u64,
    turn: AtomicU64,
    /// Whether other gateways can take them at once.
    others: Box<dyn Fn() -> bool + Send + Sync>,
}

/// When a session's heart beats: every period, give or take a fifth.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    randomness: u64,
}

impl ReconnectAdvice {
    /// Spreads clients over `window`; after a restart that begins when `after` has passed and a successor is expected, or at once
    /// while there are `others`. `seed` is where it begins.
    #[must_use]
    pub fn new(
        (after, window): (Duration, Duration),
        seed: u64,
        others: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (after_ms, window_ms) = (milliseconds(after), milliseconds(window));
        Self { after_ms, window_ms, turn: AtomicU64::new(seed), others: Box::new(others) }
    }

    /// When the next client of a gateway that stops shall come back, in milliseconds from now: not before somebody is there.
    pub fn after_restart_ms(&self) -> u64 {
        let after_ms = if (self.others)() { 0 } else { self.after_ms };
        after_ms.saturating_add(self.when_overloaded_ms())
    }

    /// When the next client that finds no place shall come back, in milliseconds from now: this gateway is here already.
    pub fn when_overloaded_ms(&self) -> u64 {
        let turn = self.turn.fetch_add(GOLDEN, Ordering::Relaxed);
        u64::try_from((u128::from(turn) * u128::from(self.window_ms)) >> 64).expect("below the window")
    }

    /// What a `drain` frame before a close with this code says; `None` for codes without one.
    pub fn before(&self, code: CloseCode) -> Option<u64> {
        match code {
            CloseCode::Drain => Some(self.after_restart_ms()),
            CloseCode::Overloaded => Some(self.when_overloaded_ms()),
            _ => None,
        }
    }
}

impl Pace {
    /// Beats every `period` on average; `seed` tells sessions apart.
    #[must_use]
    pub fn new(period: Duration, seed: u64) -> Self {
        Self { period, randomness: seed }
    }

    /// How long until the next beat.
    pub fn pause(&mut self) -> Duration {
        // splitmix64: plenty for spreading heartbeats.
        self.randomness = self.randomness.wrapping_add(GOLDEN);
        let mut mixed = self.randomness;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let percent = 100 - JITTER_PERCENT + mixed % (2 * JITTER_PERCENT + 1);
        self.period * u32::try_from(percent).expect("at most 120") / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(3);

    #[test]
    fn clients_come_back_evenly_spread_over_the_window() {
        let advice = ReconnectAdvice::new((AFTER, Duration::from_secs(10)), 7, || false);
        for (begins, next) in [
            (3, ReconnectAdvice::after_restart_ms as fn(&ReconnectAdvice) -> u64),
            (0, ReconnectAdvice::when_overloaded_ms),
        ] {
            let mut seconds = [0; 10];
            for _ in 0..1_000 {
                seconds[usize::try_from(next(&advice) / 1_000 - begins).unwrap()] += 1;
            }
            assert!(seconds.iter().all(|count| (98..=102).contains(count)), "{seconds:?}");
        }
    }

    #[test]
    fn no_window_means_as_soon_as_somebody_is_there() {
        let advice = ReconnectAdvice::new((AFTER, Duration::ZERO), u64::MAX, || false);
        assert_eq!((advice.when_overloaded_ms(), advice.after_restart_ms()), (0, 3_000));
        let among_others = ReconnectAdvice::new((AFTER, Duration::ZERO), u64::MAX, || true);
        assert_eq!(among_others.after_restart_ms(), 0, "they are there");
    }

    #[test]
    fn only_those_who_shall_come_back_later_are_told_when() {
        let advice = ReconnectAdvice::new((AFTER, Duration::ZERO), 7, || false);
        assert_eq!(advice.before(CloseCode::Drain), Some(3_000));
        assert_eq!(advice.before(CloseCode::Overloaded), Some(0));
        assert_eq!(advice.before(CloseCode::Disconnected), None);
    }

    #[test]
    fn a_pace_stays_within_a_fifth_of_its_period() {
        let mut pace = Pace::new(Duration::from_secs(25), 7);
        let pauses: Vec<Duration> = (0..1_000).map(|_| pace.pause()).collect();
        assert!(pauses.iter().all(|pause| (20..=30).contains(&pause.as_secs())));
        assert!(pauses.iter().min().unwrap() < &Duration::from_millis(20_500));
        assert!(pauses.iter().max().unwrap() > &Duration::from_millis(29_500));
    }
}
