//! Says when each notification is due, on a thread of its own with an absolute schedule.
//!
//! An asynchronous timer has a grain of a millisecond, which would be measured as the target's latency. The schedule never
//! waits for anybody: when senders are late the latency counts from the time that was intended, so that a target that stalls
//! cannot hide it (coordinated omission). What the pacer itself is late is measured apart.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::collector::{Collector, Series, seconds};
use crate::exporter::Exporter;

/// The longest the pacer sleeps without looking whether it should stop, microseconds.
const LOOK_EVERY: u64 = 100_000;

/// A notification that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Which stream it belongs to.
    pub stream: usize,
    /// When it was due, microseconds since the run's start.
    pub intended: u64,
    /// When it was handed to its sender.
    pub handed_over: u64,
    /// Bytes of text.
    pub size: usize,
}

/// Streams that are sent to in turn, at a rate that may change from step to step.
#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    /// The streams.
    pub streams: Range<usize>,
    /// Bytes of text in each notification.
    pub size: usize,
    /// What is offered, one after the other.
    pub steps: Vec<Step>,
}

/// A constant rate for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Notifications a second, over all streams of the lane.
    pub rate: f64,
    /// For so long.
    pub seconds: f64,
}

/// Starts the thread. It ends when the schedule does or `stop` is cancelled, and then drops the senders' channels.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    collector: Arc<Collector>,
    exporter: Arc<Exporter>,
    lanes: &[Lane],
    begin: u64,
    senders: Vec<UnboundedSender<Tick>>,
    stop: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let schedule = Schedule::new(lanes, begin);
    std::thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        let clock = collector.clock();
        for (intended, stream, size) in schedule {
            while clock.now() < intended {
                if stop.is_cancelled() {
                    return;
                }
                clock.sleep_until(intended.min(clock.now() + LOOK_EVERY));
            }
            if stop.is_cancelled() {
                return;
            }
            let handed_over = clock.now();
            collector.note_due(0, intended, &[(Series::Lateness, handed_over - intended)]);
            exporter.pacer_lateness.observe(seconds(handed_over - intended));
            collector.counters.offered.fetch_add(1, Ordering::Relaxed);
            // A sender that has ended has given up; what it would have sent stays offered and unsent.
            let _ = senders[stream % senders.len()].send(Tick { stream, intended, handed_over, size });
        }
    })
}

/// What is due when, in order.
struct Schedule {
    lanes: Vec<Cursor>,
}

/// How far a lane is.
struct Cursor {
    lane: Lane,
    step: usize,
    /// When the step began, microseconds.
    began: f64,
    /// How many of the step were taken.
    taken: u64,
    /// The stream that is next.
    turn: usize,
}

impl Schedule {
    fn new(lanes: &[Lane], begin: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a run is shorter than the 285 years that are exact")]
        let began = begin as f64;
        let cursor = |lane: &Lane| Cursor { lane: lane.clone(), step: 0, began, taken: 0, turn: 0 };
        Self { lanes: lanes.iter().filter(|lane| !lane.streams.is_empty()).map(cursor).collect() }
    }
}

impl Iterator for Schedule {
    /// Due time in microseconds, stream, bytes.
    type Item = (u64, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let due = |cursor: &mut Cursor| cursor.due();
        let times: Vec<Option<f64>> = self.lanes.iter_mut().map(due).collect();
        let first = times.iter().enumerate().filter_map(|(lane, due)| due.map(|due| (lane, due)));
        let (lane, due) = first.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let cursor = &mut self.lanes[lane];
        cursor.taken += 1;
        let stream = cursor.lane.streams.start + cursor.turn;
        cursor.turn = (cursor.turn + 1) % cursor.lane.streams.len();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and far below 2^63"
        )]
        Some((due as u64, stream, cursor.lane.size))
    }
}

impl Cursor {
    /// When the next one is due; `None` behind the last step.
    fn due(&mut self) -> Option<f64> {
        loop {
            let step = self.lane.steps.get(self.step)?;
            #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
            let offset = self.taken as f64 / step.rate;
            if step.rate > 0.0 && offset < step.seconds {
                return Some(self.began + offset * 1e6);
            }
            self.began += step.seconds * 1e6;
            self.step += 1;
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(streams: Range<usize>, steps: &[(f64, f64)]) -> Lane {
        let steps = steps.iter().map(|(rate, seconds)| Step { rate: *rate, seconds: *seconds }).collect();
        Lane { streams, size: 10, steps }
    }

    #[test]
    fn a_constant_rate_is_spread_evenly_and_streams_take_turns() {
        let due: Vec<_> = Schedule::new(&[lane(0..3, &[(4.0, 1.0)])], 1_000).collect();
        assert_eq!(due, [(1_000, 0, 10), (251_000, 1, 10), (501_000, 2, 10), (751_000, 0, 10)]);
    }

    #[test]
    fn steps_follow_one_another_without_a_hole() {
        let due: Vec<_> = Schedule::new(&[lane(0..1, &[(2.0, 1.0), (0.0, 1.0), (4.0, 0.5)])], 0).collect();
        let times: Vec<u64> = due.iter().map(|(due, ..)| *due).collect();
        assert_eq!(times, [0, 500_000, 2_000_000, 2_250_000]);
    }

    #[test]
    fn lanes_are_merged_in_order_of_time() {
        let due: Vec<_> = Schedule::new(&[lane(0..1, &[(2.0, 1.0)]), lane(1..2, &[(4.0, 1.0)])], 0).collect();
        let streams: Vec<usize> = due.iter().map(|(_, stream, _)| *stream).collect();
        assert_eq!(streams, [0, 1, 1, 0, 1, 1]);
        assert!(due.is_sorted_by_key(|(due, ..)| *due));
    }

    #[test]
    fn nobody_to_send_to_is_nothing_to_do() {
        assert_eq!(Schedule::new(&[lane(0..0, &[(5.0, 5.0)])], 0).next(), None);
    }

    #[test]
    fn a_stopped_pacer_ends_and_lets_its_senders_go() {
        let collector = Arc::new(Collector::new(crate::clock::Clock::start(), 1_000_000));
        let exporter = Arc::new(Exporter::new("run", "steady", "nowhere"));
        let (sender, mut ticks) = tokio::sync::mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let lanes = [lane(0..1, &[(1_000.0, 3_600.0)])];
        let thread = start(collector.clone(), exporter, &lanes, 0, vec![sender], stop.clone()).unwrap();
        assert_eq!(ticks.blocking_recv().unwrap().intended, 0);
        stop.cancel();
        thread.join().unwrap();
        while ticks.blocking_recv().is_some() {}
        assert!(collector.distribution(Series::Lateness).count() >= 1);
    }
}
