//! How long senders were turned away: spans in which sends were under way and none was accepted.

/// The spans so far. Times are microseconds since the run's start.
#[derive(Debug, Default)]
pub(super) struct Outages {
    /// Sends that have been begun and not ended.
    under_way: u64,
    /// When the span that goes on began; of no meaning while nothing is under way.
    since: u64,
    longest: u64,
}

impl Outages {
    /// Somebody begins to send, repetitions included.
    pub(super) fn begin(&mut self, now: u64) {
        if self.under_way == 0 {
            self.since = now;
        }
        self.under_way += 1;
    }

    /// A send was accepted, or is given up. Gives the span that ends with it: when it began, and how long it was.
    pub(super) fn end(&mut self, now: u64, accepted: bool) -> Option<(u64, u64)> {
        self.under_way -= 1;
        if !accepted && self.under_way > 0 {
            // Others are still turned away.
            return None;
        }
        // Whoever waited longer for the lock may have looked at the clock before.
        let span = (self.since, now.saturating_sub(self.since));
        self.longest = self.longest.max(span.1);
        self.since = self.since.max(now);
        Some(span)
    }

    /// The longest span, with the one that goes on.
    pub(super) fn longest(&self, now: u64) -> u64 {
        let going_on = if self.under_way > 0 { now.saturating_sub(self.since) } else { 0 };
        self.longest.max(going_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_with_the_first_acceptance() {
        let mut outages = Outages::default();
        outages.begin(100);
        outages.begin(150);
        assert_eq!(outages.longest(160), 60, "it goes on");
        assert_eq!(outages.end(400, true), Some((100, 300)));
        assert_eq!(outages.end(450, true), Some((400, 50)));
        assert_eq!(outages.longest(1_000), 300);
    }

    #[test]
    fn what_is_given_up_ends_no_span_while_others_wait() {
        let mut outages = Outages::default();
        outages.begin(0);
        outages.begin(0);
        assert_eq!(outages.end(10, false), None);
        assert_eq!(outages.end(30, false), Some((0, 30)));
    }

    #[test]
    fn nobody_is_turned_away_while_nobody_sends() {
        let mut outages = Outages::default();
        outages.begin(0);
        outages.end(5, true);
        assert_eq!(outages.longest(10_000), 5);
        outages.begin(10_000);
        outages.end(10_001, true);
        assert_eq!(outages.longest(20_000), 5);
    }
}
