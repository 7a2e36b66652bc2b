//! When what was seen of the stream has to be looked at again.
//!
//! While a leader is lost, a server may show an entry that it takes back when it learns of its successor: a leader whose machine
//! stood still for some seconds was seen to do so (nats-server 2.9). Whoever followed it has seen an entry that the stream does
//! not have. So after every disturbance, once the same leader has answered for a while, everything since before it is compared
//! with the stream.

use std::time::Duration;

use tokio::time::Instant;

/// For how long the same leader has to answer.
const SETTLED: Duration = Duration::from_secs(5);

/// Entries at the end of a copy that are compared when a gateway starts.
const AT_START: u64 = 1_000;

/// What is known of how the stream was while it was followed.
pub(super) struct Doubt {
    leader: Option<String>,
    /// Since when the same leader answers.
    since: Instant,
    /// Something happened that was not looked at again.
    disturbed: bool,
    /// The copy's head some time ago, and when.
    head: (u64, Instant),
    /// Up to here nobody doubts.
    trusted: u64,
}

impl Doubt {
    /// For a copy that was just opened.
    pub(super) fn new(head: u64) -> Self {
        let trusted = head.saturating_sub(AT_START);
        Self {
            leader: None,
            since: Instant::now(),
            disturbed: false,
            head: (trusted, Instant::now()),
            trusted,
        }
    }

    /// The last entry that need not be compared.
    pub(super) fn trusted(&self) -> u64 {
        self.trusted
    }

    /// Nobody answered.
    pub(super) fn no_answer(&mut self) {
        self.since = Instant::now();
        self.disturbed = true;
        // What came since then is compared first.
        self.head = (self.trusted, self.since);
    }

    /// A leader answered, while the copy ended at `head`; whether it is time to compare.
    pub(super) fn answer(&mut self, leader: Option<String>, head: u64) -> bool {
        if leader != self.leader {
            self.leader = leader;
            self.no_answer();
        }
        if self.since.elapsed() < SETTLED {
            return false;
        }
        if self.disturbed {
            self.disturbed = false;
            return true;
        }
        // What was there then was seen from a leader that still is one.
        if self.head.1.elapsed() >= SETTLED {
            self.trusted = self.trusted.max(self.head.0);
            self.head = (head, Instant::now());
        }
        false
    }

    /// Everything up to here was compared.
    pub(super) fn compared(&mut self, head: u64) {
        if !self.disturbed {
            self.trusted = self.trusted.max(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_disturbance_everything_since_before_it_is_doubted_once_a_leader_has_settled() {
        let leader = |name: &str| Some(name.to_owned());
        let mut doubt = Doubt::new(2_000);
        assert_eq!(doubt.trusted(), 1_000);
        assert!(!doubt.answer(leader("a"), 2_000));
        tokio::time::advance(SETTLED).await;
        assert!(doubt.answer(leader("a"), 2_100), "the first leader is a change, too");
        doubt.compared(2_100);
        assert!(!doubt.answer(leader("a"), 2_200));
        assert!(!doubt.answer(leader("a"), 2_300), "however often it is asked");
        assert_eq!(doubt.trusted(), 2_100);
        tokio::time::advance(SETTLED).await;
        assert!(!doubt.answer(leader("a"), 2_400));
        assert_eq!(doubt.trusted(), 2_200, "what was there when the time began");
        doubt.no_answer();
        assert!(!doubt.answer(leader("a"), 2_400));
        assert!(!doubt.answer(leader("b"), 2_500));
        tokio::time::advance(SETTLED / 2).await;
        assert!(!doubt.answer(leader("b"), 2_600));
        doubt.compared(2_600);
        assert_eq!(doubt.trusted(), 2_200, "it is compared again later");
        tokio::time::advance(SETTLED / 2).await;
        assert!(doubt.answer(leader("b"), 2_700));
        doubt.compared(2_700);
        assert_eq!(doubt.trusted(), 2_700);
    }
}
