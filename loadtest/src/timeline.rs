//! Looks at the counters and at the processes once an interval, so that the report can show how a run went.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::collector::{Collector, Series, seconds};
use crate::exporter::Exporter;
use crate::summary::Interval;
use crate::usage::{Reading, Source};

/// How often it is measured how late this process wakes up, microseconds.
const PROBE_EVERY: u64 = 10_000;

/// An asynchronous timer rounds up to a millisecond, however idle the machine is.
const TIMER_GRAIN: u64 = 1_000;

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: u64,
    offered: u64,
    accepted: u64,
    failed: u64,
    received: u64,
    sockets: u64,
    gateway: Option<Reading>,
    /// Which process of the target was read: each restart is another one.
    generation: u32,
    generator: Option<Reading>,
}

/// The processes that are watched. The target's changes when it is restarted.
#[derive(Debug, Clone)]
pub struct Watched {
    gateway: Arc<Mutex<Option<Source>>>,
    generation: Arc<AtomicU32>,
}

impl Watched {
    /// Watches a target, if there is anything to watch.
    #[must_use]
    pub fn new(gateway: Option<Source>) -> Self {
        Self { gateway: Arc::new(Mutex::new(gateway)), generation: Arc::default() }
    }

    /// From now on it is this process.
    pub async fn changed(&self, gateway: Option<Source>) {
        *self.gateway.lock().await = gateway;
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Which process it is, counted from 0: the processor time of one says nothing of another's.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What the target uses now; `None`: not known.
    pub async fn gateway(&self) -> Option<Reading> {
        match &*self.gateway.lock().await {
            Some(source) => source.read().await,
            None => None,
        }
    }

    /// Where the target's numbers come from, in words; `None`: from nowhere.
    pub async fn describe(&self) -> Option<String> {
        self.gateway.lock().await.as_ref().map(Source::describe)
    }

    /// What this process uses now.
    pub async fn generator(&self) -> Option<Reading> {
        Source::Own.read().await
    }
}

/// Samples until `stop` is cancelled; gives the intervals between the samples.
pub async fn watch(
    collector: Arc<Collector>,
    exporter: Arc<Exporter>,
    watched: Watched,
    stop: CancellationToken,
) -> Vec<Interval> {
    let clock = collector.clock();
    let mut samples = vec![look(&collector, &watched).await];
    let mut next = collector.interval();
    loop {
        let stopped = tokio::select! {
            () = clock.wait_until(next) => false,
            () = stop.cancelled() => true,
        };
        samples.push(look(&collector, &watched).await);
        if let [.., before, after] = &samples[..] {
            #[expect(clippy::cast_precision_loss, reason = "a rate for a gauge")]
            let offered = (after.offered - before.offered) as f64;
            exporter.offered_rate.set(offered / seconds((after.at - before.at).max(1)));
        }
        if stopped {
            break;
        }
        // A look that took longer than an interval makes a longer interval, not several of nothing.
        next += collector.interval();
        next = next.max(clock.now() / collector.interval() * collector.interval());
    }
    let pairs = samples.windows(2).filter(|pair| pair[1].at > pair[0].at);
    let mut intervals: Vec<Interval> = pairs.map(|pair| between(&pair[0], &pair[1])).collect();
    for (at, interval) in intervals.iter_mut().enumerate() {
        collector.describe(at, interval);
    }
    intervals
}

async fn look(collector: &Collector, watched: &Watched) -> Sample {
    let counters = &collector.counters;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (gateway, generator) = (watched.gateway().await, watched.generator().await);
    Sample {
        at: collector.clock().now(),
        offered: get(&counters.offered),
        accepted: get(&counters.accepted),
        failed: get(&counters.refused) + get(&counters.unknown) + get(&counters.retried),
        received: get(&counters.received),
        sockets: u64::try_from(counters.sockets.load(Ordering::Relaxed)).unwrap_or(0),
        gateway,
        generation: watched.generation(),
        generator,
    }
}

/// Measures, until `stop` is cancelled, how late tasks of this process wake up: that late are frames read, too.
pub async fn probe(collector: Arc<Collector>, stop: CancellationToken) {
    let clock = collector.clock();
    while !stop.is_cancelled() {
        let due = clock.now() + PROBE_EVERY;
        clock.wait_until(due).await;
        collector.note(0, Series::Wakeup, clock.now().saturating_sub(due + TIMER_GRAIN));
    }
}

fn between(before: &Sample, after: &Sample) -> Interval {
    let length = seconds(after.at - before.at);
    let busy = |before: Option<Reading>, after: Option<Reading>| {
        let used = after?.cpu_seconds - before?.cpu_seconds;
        // An address of metrics may be another process's now.
        (used >= 0.0).then_some(used / length)
    };
    Interval {
        at: seconds(before.at),
        seconds: length,
        offered: after.offered - before.offered,
        accepted: after.accepted - before.accepted,
        failed: after.failed - before.failed,
        received: after.received - before.received,
        sockets: after.sockets,
        gateway_rss: after.gateway.map(|reading| reading.rss),
        gateway_cpu: if before.generation == after.generation {
            busy(before.gateway, after.gateway)
        } else {
            None
        },
        generator_rss: after.generator.map(|reading| reading.rss),
        generator_cpu: busy(before.generator, after.generator),
        ..Interval::default()
    }
}
