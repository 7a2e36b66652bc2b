//! How many frames a client may still send: a token bucket that every idle socket can afford.

use tokio::time::Instant;

use crate::config::Rate;

/// A bucket, full at first. Whoever asks knows its rate, which all sockets share.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// When it will be full again.
    full_at: Option<Instant>,
}

impl Allowance {
    /// Takes a token; `false` if there is none.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let each = rate.period / rate.tokens.get();
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + each;
        if full_at - now > each * rate.burst.get() {
            return false;
        }
        self.full_at = Some(full_at);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_may_come_at_once_and_then_as_many_as_come_back() {
        let (rate, start) = (Rate::per_second(10, 3), Instant::now());
        let mut allowance = Allowance::default();
        let taken: Vec<bool> = (0..5).map(|_| allowance.take(rate, start)).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        let later = start + Duration::from_millis(200);
        let taken: Vec<bool> = (0..3).map(|_| allowance.take(rate, later)).collect();
        assert_eq!(taken, [true, true, false], "two came back");
        let much_later = start + Duration::from_secs(60);
        assert_eq!(
            (0..9).filter(|_| allowance.take(rate, much_later)).count(),
            3,
            "it holds no more than three"
        );
    }
}
