//! What is measured while a run goes on: distributions, counters, errors, marks.
//!
//! Every task writes here, thousands of times a second, so the distributions are spread over shards that are added up at the
//! end, and the counters are atomics. Which notification was lost is not known here: see [`crate::sequence`].

mod distribution;
mod outages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::summary::{Interval, IntervalLatency, Latency, Mark, SERIES};

use outages::Outages;

pub use distribution::Distribution;

/// Tasks that write at the same time rarely meet in one of so many.
const SHARDS: usize = 8;

/// From this on, microseconds, a span in which no send was accepted is marked in the plots.
const MARKED_OUTAGE: u64 = 1_000_000;

/// Texts of errors that are told apart.
const MAX_ERRORS: usize = 20;

/// What is distributed; in the order of [`SERIES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Intended send time to frame read.
    Push,
    /// POST begun to frame read.
    Service,
    /// POST begun to its answer.
    Post,
    /// First to last receiver of the same notification.
    Spread,
    /// Connect begun to welcome.
    Connect,
    /// Reconnect begun to having what was missed.
    Resume,
    /// Handed over to its sender being free.
    Queue,
    /// The sender being free to POST begun.
    Dispatch,
    /// Due to handed over.
    Lateness,
    /// A task of this tool woke up late.
    Wakeup,
}

/// Counters that grow while a run goes on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notifications that were due.
    pub offered: AtomicU64,
    /// POSTs begun, repetitions not counted.
    pub sent: AtomicU64,
    /// Accepted.
    pub accepted: AtomicU64,
    /// Refused for good.
    pub refused: AtomicU64,
    /// Without an answer that tells.
    pub unknown: AtomicU64,
    /// Repetitions.
    pub retried: AtomicU64,
    /// POSTs that were not accepted, repetitions included.
    pub failed_attempts: AtomicU64,
    /// Receptions owed by what was accepted.
    pub expected: AtomicU64,
    /// Receptions that may come of what nobody can say.
    pub possible: AtomicU64,
    /// Receptions for the first time.
    pub received: AtomicU64,
    /// Receptions of any kind: while this grows, something is still on its way.
    pub arrived: AtomicU64,
    /// Sockets that are connected.
    pub sockets: AtomicI64,
    /// First connects that succeeded.
    pub connected: AtomicU64,
    /// First connects that failed.
    pub connects_failed: AtomicU64,
    /// Sockets that do not come back, because they never came or were told not to.
    pub gone: AtomicU64,
    /// Later connects that succeeded.
    pub reconnected: AtomicU64,
    /// Later connects that failed.
    pub reconnects_failed: AtomicU64,
    /// Closes of sockets that had stopped reading.
    pub expected_closes: AtomicU64,
    /// `drain` frames.
    pub drains: AtomicU64,
}

/// A view of what has happened so far.
#[derive(Debug)]
pub struct Collector {
    clock: Clock,
    interval: u64,
    /// When the first connect was begun, and when the last first welcome came; 0: not yet.
    connecting: (AtomicU64, AtomicU64),
    /// Before this, nothing counts for a latency. Set once, when the first notification is due.
    measure_from: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    /// The counters.
    pub counters: Counters,
    outages: Mutex<Outages>,
    closes: Mutex<BTreeMap<u16, u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
    marks: Mutex<Vec<Mark>>,
}

#[derive(Debug, Default)]
struct Shard {
    whole: [Distribution; SERIES.len()],
    /// Push and lateness by the interval in which the notification was due.
    intervals: Vec<(Distribution, Distribution)>,
}

impl Collector {
    /// An empty one that tells intervals of so many microseconds apart.
    #[must_use]
    pub fn new(clock: Clock, interval: u64) -> Self {
        Self {
            clock,
            interval,
            connecting: (AtomicU64::new(u64::MAX), AtomicU64::new(0)),
            measure_from: AtomicU64::new(0),
            shards: Default::default(),
            counters: Counters::default(),
            outages: Mutex::default(),
            closes: Mutex::default(),
            errors: Mutex::default(),
            marks: Mutex::default(),
        }
    }

    /// The clock of the run.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The length of an interval, microseconds.
    #[must_use]
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Notes a first connect that succeeded.
    pub fn note_connect(&self, writer: usize, began: u64, welcomed: u64) {
        self.connecting.0.fetch_min(began, Ordering::Relaxed);
        self.connecting.1.fetch_max(welcomed, Ordering::Relaxed);
        self.note(writer, Series::Connect, welcomed - began);
    }

    /// From the first connect begun to the last welcome, microseconds; `None`: there was none.
    #[must_use]
    pub fn all_connected(&self) -> Option<u64> {
        self.connecting.1.load(Ordering::Relaxed).checked_sub(self.connecting.0.load(Ordering::Relaxed))
    }

    /// What is due before this counts for delivery, not for latency.
    pub fn measure_from(&self, micros: u64) {
        self.measure_from.store(micros, Ordering::Relaxed);
    }

    /// Notes a duration of something that has no intended time.
    pub fn note(&self, writer: usize, series: Series, micros: u64) {
        self.shard(writer).whole[series as usize].note(micros);
    }

    /// Notes durations that belong to a notification that was due at `intended`.
    pub fn note_due(&self, writer: usize, intended: u64, durations: &[(Series, u64)]) {
        let counts = intended >= self.measure_from.load(Ordering::Relaxed);
        let at = usize::try_from(intended / self.interval).expect("an interval's number");
        let mut shard = self.shard(writer);
        for (series, micros) in durations {
            if counts {
                shard.whole[*series as usize].note(*micros);
            }
            if matches!(series, Series::Push | Series::Lateness) {
                if shard.intervals.len() <= at {
                    shard.intervals.resize_with(at + 1, Default::default);
                }
                let (push, lateness) = &mut shard.intervals[at];
                if *series == Series::Push { push } else { lateness }.note_roughly(*micros);
            }
        }
    }

    /// Notes that a send is begun; each one has to be ended.
    pub fn begin_send(&self) {
        locked(&self.outages).begin(self.clock.now());
    }

    /// Notes that a send was accepted, or is given up.
    pub fn end_send(&self, accepted: bool) {
        let ended = locked(&self.outages).end(self.clock.now(), accepted);
        if let Some((began, lasted)) = ended.filter(|(_, lasted)| *lasted >= MARKED_OUTAGE) {
            self.mark_at(began, format!("no send accepted for {:.1} s", seconds(lasted)));
        }
    }

    /// The longest time in which sends were under way and none was accepted, microseconds.
    #[must_use]
    pub fn longest_outage(&self) -> u64 {
        locked(&self.outages).longest(self.clock.now())
    }

    /// Notes that something went wrong.
    pub fn note_error(&self, what: &str) {
        let mut errors = locked(&self.errors);
        if errors.len() < MAX_ERRORS || errors.contains_key(what) {
            *errors.entry(what.to_owned()).or_default() += 1;
        } else {
            *errors.entry("other errors".to_owned()).or_default() += 1;
        }
    }

    /// Notes a close that nobody here asked for.
    pub fn note_close(&self, code: u16) {
        *locked(&self.closes).entry(code).or_default() += 1;
    }

    /// Notes that something was done that a plot should show.
    pub fn mark(&self, what: impl Into<String>) {
        self.mark_at(self.clock.now(), what);
    }

    /// The same for another time, microseconds.
    pub fn mark_at(&self, at: u64, what: impl Into<String>) {
        locked(&self.marks).push(Mark { at: seconds(at), what: what.into() });
    }

    /// The marks so far.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let mut marks = locked(&self.marks).clone();
        marks.sort_by(|one, other| one.at.total_cmp(&other.at));
        marks
    }

    /// The closes so far, by code.
    #[must_use]
    pub fn closes(&self) -> BTreeMap<u16, u64> {
        locked(&self.closes).clone()
    }

    /// The errors so far, the most frequent first.
    #[must_use]
    pub fn errors(&self) -> Vec<(String, u64)> {
        let mut errors: Vec<_> = locked(&self.errors).clone().into_iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        errors
    }

    /// The distribution of one series so far.
    #[must_use]
    pub fn distribution(&self, series: Series) -> Distribution {
        self.added_up(|shard| Some(&shard.whole[series as usize]))
    }

    /// Every distribution by name.
    #[must_use]
    pub fn latencies(&self) -> BTreeMap<String, Latency> {
        let latency = |index: usize| self.added_up(|shard| Some(&shard.whole[index])).to_latency();
        SERIES.iter().enumerate().map(|(index, (name, _))| ((*name).to_owned(), latency(index))).collect()
    }

    /// Push latency of what was due between two times, microseconds since the start, to the interval.
    #[must_use]
    pub fn push_between(&self, from: u64, until: u64) -> Distribution {
        self.between(from, until, |(push, _)| push)
    }

    /// The pacer's lateness of what was due between two times, to the interval.
    #[must_use]
    pub fn lateness_between(&self, from: u64, until: u64) -> Distribution {
        self.between(from, until, |(_, lateness)| lateness)
    }

    /// Fills in what is known of an interval's latencies.
    pub fn describe(&self, at: usize, interval: &mut Interval) {
        let push = self.added_up(|shard| shard.intervals.get(at).map(|(push, _)| push));
        let lateness = self.added_up(|shard| shard.intervals.get(at).map(|(_, lateness)| lateness));
        interval.push = IntervalLatency::of(&push);
        interval.lateness_p99 = (!lateness.is_empty()).then(|| lateness.at(0.99));
        interval.heat = push.cells();
    }

    fn between(
        &self,
        from: u64,
        until: u64,
        pick: fn(&(Distribution, Distribution)) -> &Distribution,
    ) -> Distribution {
        let index = |micros: u64| usize::try_from(micros / self.interval).expect("an interval's number");
        let mut all = Distribution::default();
        for at in index(from)..=index(until.saturating_sub(1)) {
            all.add(&self.added_up(|shard| shard.intervals.get(at).map(pick)));
        }
        all
    }

    fn added_up<'a>(&'a self, pick: impl Fn(&Shard) -> Option<&Distribution> + 'a) -> Distribution {
        let mut all = Distribution::default();
        for shard in &self.shards {
            if let Some(distribution) = pick(&locked(shard)) {
                all.add(distribution);
            }
        }
        all
    }

    fn shard(&self, writer: usize) -> MutexGuard<'_, Shard> {
        locked(&self.shards[writer % SHARDS])
    }
}

impl IntervalLatency {
    /// The percentiles of a distribution; `None` of an empty one.
    #[must_use]
    pub fn of(distribution: &Distribution) -> Option<Self> {
        (!distribution.is_empty()).then(|| Self {
            p50: distribution.at(0.5),
            p90: distribution.at(0.9),
            p99: distribution.at(0.99),
            max: distribution.max(),
        })
    }
}

/// Microseconds as seconds.
#[must_use]
pub fn seconds(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a run is shorter than the 285 years that are exact")]
    let exact = micros as f64;
    exact / 1e6
}

/// Locks; nothing in a run is left half-written by a panic.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_in_the_warm_up_counts_for_its_interval_only() {
        let collector = Collector::new(Clock::start(), 1_000_000);
        collector.measure_from(1_500_000);
        collector.note_due(0, 1_400_000, &[(Series::Push, 900), (Series::Service, 800)]);
        collector.note_due(1, 1_600_000, &[(Series::Push, 100)]);
        assert_eq!(collector.latencies()["push"].count, 1);
        assert_eq!(collector.latencies()["service"].count, 0);
        let mut interval = Interval::default();
        collector.describe(1, &mut interval);
        let push = interval.push.unwrap();
        // To one per cent.
        assert_eq!((push.p50 / 10, push.max / 10), (10, 90));
        assert_eq!(interval.heat.iter().map(|(_, count)| count).sum::<u64>(), 2);
        assert_eq!(collector.push_between(0, 1_000_000).count(), 0);
        assert_eq!(collector.push_between(1_000_000, 2_000_000).count(), 2);
    }

    #[test]
    fn errors_are_counted_by_text_and_the_kinds_are_bounded() {
        let collector = Collector::new(Clock::start(), 1_000_000);
        for number in 0..100 {
            collector.note_error(&format!("error {}", number % 30));
        }
        let errors = collector.errors();
        assert_eq!(errors.len(), MAX_ERRORS + 1);
        assert_eq!(errors[0].0, "other errors");
        assert_eq!(errors.iter().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
