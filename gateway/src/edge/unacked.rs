//! What a session wrote and the client has not acked yet: for the latency of acks and the spans of recorded ones.
//!
//! Only for measuring. It is bounded, so a client that never acks costs little, and given back as soon as nothing waits.

use std::collections::VecDeque;

use crate::domain::TraceContext;
use crate::telemetry::Delivered;

/// Notifications that are remembered; beyond it the oldest is not measured.
const MAX_REMEMBERED: usize = 64;

/// Written notifications in the order of their numbers.
#[derive(Default)]
pub(super) struct Unacked(VecDeque<Written>);

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Its place in the log.
    pub(super) number: u64,
    /// When it was accepted, in microseconds since the Unix epoch; `None` if it had waited for the session.
    pub(super) accepted_at_us: Option<u64>,
    /// Its delivery, and the trace it belongs to, if that is recorded.
    pub(super) trace: Option<Box<(Delivered, TraceContext)>>,
}

impl Unacked {
    pub(super) fn push(&mut self, written: Written) {
        if self.0.len() == MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(written);
    }

    /// Takes out the next one up to `number`.
    pub(super) fn pop(&mut self, number: u64) -> Option<Written> {
        if self.0.front()?.number > number {
            return None;
        }
        let next = self.0.pop_front();
        if self.0.is_empty() {
            // An idle session keeps no room.
            self.0 = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u64) -> Written {
        Written { number, accepted_at_us: Some(number), trace: None }
    }

    #[test]
    fn an_ack_takes_everything_up_to_it_and_an_empty_one_costs_nothing() {
        let mut unacked = Unacked::default();
        [3, 5, 9].into_iter().for_each(|number| unacked.push(written(number)));
        assert_eq!(unacked.pop(2), None);
        assert_eq!(
            (unacked.pop(5), unacked.pop(5), unacked.pop(5)),
            (Some(written(3)), Some(written(5)), None)
        );
        assert!(unacked.0.capacity() > 0);
        assert_eq!(unacked.pop(9), Some(written(9)));
        assert_eq!(unacked.0.capacity(), 0);
        assert_eq!(unacked.pop(9), None);
    }

    #[test]
    fn a_client_that_never_acks_costs_a_bounded_amount() {
        let mut unacked = Unacked::default();
        (0..1_000).for_each(|number| unacked.push(written(number)));
        let kept = std::iter::from_fn(|| unacked.pop(u64::MAX));
        assert_eq!(kept.map(|written| written.number).collect::<Vec<_>>(), (936..1_000).collect::<Vec<_>>());
    }
}
