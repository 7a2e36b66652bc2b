//! Memberships that ended lately: what says again what holds must not bring them back.
//!
//! A node gathers what holds, and while that is on its way into the log another node may end a membership. The entry says as
//! of which number it was gathered, and every node leaves out what ended since. It is remembered for a minute of log time;
//! an entry that took longer says nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How long what holds may be on its way into the log, in seconds of log time.
pub(in crate::delivery) const MEMORY_SECONDS: u32 = 60;

/// Memberships that ended, in the order of the log.
#[derive(Default)]
pub(super) struct Ended(VecDeque<End>);

struct End {
    number: u64,
    log_time_s: u32,
    /// `None`: the user left every topic.
    topic: Option<Arc<str>>,
    user: Arc<str>,
}

/// What ended behind a number: for a user and a topic, or all of them, the entry that did it.
#[derive(Default)]
pub(in crate::delivery) struct EndedSince<'a>(HashMap<(Option<&'a str>, &'a str), u64>);

impl Ended {
    /// Notes an end, also of what was not known to hold: another node may know it.
    pub(super) fn note(&mut self, number: u64, log_time_s: u32, topic: Option<&str>, user: &str) {
        self.0.push_back(End { number, log_time_s, topic: topic.map(Into::into), user: user.into() });
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn tidy(&mut self, log_time_s: u32) {
        while self.0.front().is_some_and(|end| end.log_time_s.saturating_add(MEMORY_SECONDS) < log_time_s) {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            // A crowd leaves no empty places behind.
            self.0.shrink_to(64);
        }
    }

    pub(super) fn since(&self, number: u64) -> EndedSince<'_> {
        let from = self.0.partition_point(|end| end.number <= number);
        let ends = self.0.range(from..).map(|end| ((end.topic.as_deref(), &*end.user), end.number));
        EndedSince(ends.collect())
    }
}

impl EndedSince<'_> {
    /// The entry that ended this membership, if one did.
    pub(in crate::delivery) fn by(&self, topic: &str, user: &str) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        [Some(topic), None].into_iter().filter_map(|topic| self.0.get(&(topic, user)).copied()).max()
    }
}
