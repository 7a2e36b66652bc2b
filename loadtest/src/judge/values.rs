//! Every number that a gate can be about.

use std::collections::BTreeMap;

use crate::collector::{locked, seconds};
use crate::gate::Values;
use crate::run::Both;
use crate::sequence::{self, Listener};
use crate::summary::{Deliveries, Interval, Latency, Usage};
use crate::usage::Reading;

use super::{Evidence, cores, float};

impl Evidence<'_> {
    /// What was delivered and what was not, by the books of streams and receivers.
    pub(super) fn deliveries(&self) -> Deliveries {
        let mut judged = self.judged(|_| true);
        judged.offered = self.counter(|counters| &counters.offered);
        judged.sent = self.counter(|counters| &counters.sent);
        judged.retried = self.counter(|counters| &counters.retried);
        judged.failed_attempts = self.counter(|counters| &counters.failed_attempts);
        judged.longest_outage = self.context.collector.longest_outage();
        judged
    }

    /// The same for some of the receivers.
    fn judged(&self, pick: impl Fn(&crate::context::Receiver) -> bool) -> Deliveries {
        let context = self.context;
        let sent: Vec<_> = context.streams.iter().map(|stream| locked(&stream.sent).clone()).collect();
        let picked = context.receivers.iter().filter(|receiver| pick(receiver));
        let received: Vec<_> = picked.map(|one| (one, locked(&one.received).clone())).collect();
        let listener = |(one, received)| {
            let one: &crate::context::Receiver = one;
            let owed = !one.gone.load(std::sync::atomic::Ordering::Relaxed);
            Listener { name: &one.user, stream: one.stream, received, owed }
        };
        sequence::judge(&sent, received.iter().map(|(one, received)| listener((*one, received))))
    }

    pub(super) fn values(&self, latencies: &BTreeMap<String, Latency>, deliveries: &Deliveries) -> Values {
        let mut values = Values::new();
        let mut set = |name: &str, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                values.insert(name.to_owned(), value);
            }
        };
        for (series, latency) in latencies.iter().filter(|(_, latency)| latency.count > 0) {
            for (statistic, value) in latency.statistics() {
                set(&format!("{series}_{statistic}"), Some(value));
            }
        }
        let mut count = |name: &str, value: u64| set(name, Some(float(value)));
        count("lost", deliveries.lost);
        count("unannounced", deliveries.lost - deliveries.announced);
        count("duplicates", deliveries.duplicates);
        count("order_violations", deliveries.out_of_order);
        count("unexpected", deliveries.unexpected);
        count("offered", deliveries.offered);
        count("refused", deliveries.refused);
        count("unknown", deliveries.unknown);
        count("failed_attempts", deliveries.failed_attempts);
        count("samples", latencies.get("push").map_or(0, |push| push.count));
        count("connects_failed", self.counter(|counters| &counters.connects_failed));
        count("missing_sockets", self.sockets_less());
        let closes: u64 = self.context.collector.closes().values().sum();
        let expected_closes = self.counter(|counters| &counters.expected_closes);
        count("unexpected_closes", closes.saturating_sub(expected_closes));
        let drains = self.counter(|counters| &counters.drains);
        count("goodbyes_missed", self.findings.goodbyes_owed.saturating_sub(drains));
        count("target_failures", self.findings.failures.len() as u64);
        let offered = (deliveries.offered > 0).then_some(float(deliveries.offered));
        set("achieved", offered.map(|offered| float(deliveries.accepted) / offered));
        let outage = (deliveries.sent > 0).then_some(float(deliveries.longest_outage));
        set("longest_outage", outage);
        set("log_append_p99", self.log_append_p99);
        set("ledger_imbalance", self.ledger.map(f64::abs));
        set("all_connected", self.context.collector.all_connected().map(float));
        set("all_back", self.findings.all_back.map(float));
        let stages = &self.findings.stages;
        let knee = stages.iter().filter(|stage| stage.kept_up).map(|stage| stage.rate).fold(0.0, f64::max);
        set("knee", (!stages.is_empty()).then_some(knee));
        self.slow_ones(&mut set);
        self.costs(&mut set);
        set("p99_drift", drift(&self.timeline));
        set("rss_slope", slope(&self.timeline));
        values
    }

    /// Sockets that had not come back, or never will.
    pub(super) fn sockets_less(&self) -> u64 {
        let never_came = self.counter(|counters| &counters.connects_failed);
        self.missing_sockets + self.counter(|counters| &counters.gone) - never_came
    }

    /// What those that stop reading did to themselves, and to the others.
    fn slow_ones(&self, set: &mut impl FnMut(&str, Option<f64>)) {
        let slow = self.context.receivers.iter().filter(|receiver| receiver.slow);
        let count = slow.clone().count();
        if count > 0 {
            let affected = slow.filter(|receiver| locked(&receiver.received).has_gaps()).count();
            set("slow_affected", Some(float(affected as u64) / float(count as u64)));
            set("lost_by_healthy", Some(float(self.judged(|receiver| !receiver.slow).lost)));
        }
    }

    /// What the processes used, for each socket and each reception.
    fn costs(&self, set: &mut impl FnMut(&str, Option<f64>)) {
        let sockets = float(self.counter(|counters| &counters.connected));
        let received = float(self.counter(|counters| &counters.received));
        let length = seconds(self.offered_until.saturating_sub(self.offered_from));
        let per_socket = |pick: fn(&Both) -> Option<Reading>| {
            let (before, connected) = (pick(&self.readings.before)?, pick(&self.readings.connected)?);
            Some((float(connected.rss) - float(before.rss)) / sockets)
        };
        let generator = self.cpu(false);
        set("rss_per_socket", per_socket(|both| both.gateway));
        set("gateway_cpu_per_push", self.cpu(true).map(|used| used * 1e6 / received));
        set("generator_rss_per_socket", per_socket(|both| both.generator));
        set("generator_cpu_per_push", generator.map(|used| used * 1e6 / received));
        let offering = self.readings.connected.generator.zip(self.readings.offered.generator);
        let busy = offering.map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
        set("generator_cpu", busy.map(|used| used / length / float(cores() as u64)));
        let most = self.timeline.iter().filter_map(|interval| interval.gateway_rss).max();
        let at_first = self.readings.connected.gateway.map(|reading| reading.rss);
        set("gateway_rss_growth", most.zip(at_first).map(|(most, first)| float(most.saturating_sub(first))));
    }

    /// Processor time from the first send until everything had arrived, seconds. `None`: not known, or that of two processes.
    fn cpu(&self, of_gateway: bool) -> Option<f64> {
        let pick = picked(of_gateway);
        if self.restarted && of_gateway {
            return None;
        }
        let used = pick(&self.readings.settled)?.cpu_seconds - pick(&self.readings.connected)?.cpu_seconds;
        // Whoever restarted it did not tell.
        (used >= 0.0).then_some(used)
    }

    /// What one process used: the target's or this one.
    pub(super) fn usage(&self, of_gateway: bool) -> Option<Usage> {
        let pick = picked(of_gateway);
        let rss =
            |interval: &Interval| if of_gateway { interval.gateway_rss } else { interval.generator_rss };
        let (before, connected) = (pick(&self.readings.before)?, pick(&self.readings.connected)?);
        let source = if of_gateway { self.gateway_source.clone() } else { None };
        Some(Usage {
            source: source.unwrap_or_else(|| "the kernel".to_owned()),
            rss_before: before.rss,
            rss_connected: connected.rss,
            rss_max: self.timeline.iter().filter_map(rss).max().unwrap_or(0).max(connected.rss),
            cpu_seconds: self.cpu(of_gateway).unwrap_or(0.0),
        })
    }
}

fn picked(of_gateway: bool) -> fn(&Both) -> Option<Reading> {
    if of_gateway { |both| both.gateway } else { |both| both.generator }
}

/// The median of push p99 in the last third, as a multiple of that in the first third.
fn drift(timeline: &[Interval]) -> Option<f64> {
    let p99: Vec<u64> = timeline.iter().filter_map(|interval| Some(interval.push?.p99)).collect();
    let third = p99.len() / 3;
    if third == 0 {
        return None;
    }
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        float(sorted[sorted.len() / 2])
    };
    Some(median(&p99[p99.len() - third..]) / median(&p99[..third]).max(1.0))
}

/// What the target's resident memory grows by in an hour, bytes: the slope of the line of least squares through the second
/// half, since memory grows at first in any case.
fn slope(timeline: &[Interval]) -> Option<f64> {
    let points: Vec<(f64, f64)> =
        timeline.iter().filter_map(|interval| Some((interval.at, float(interval.gateway_rss?)))).collect();
    let points = &points[points.len() / 2..];
    if points.len() < 3 {
        return None;
    }
    let count = float(points.len() as u64);
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let (mut products, mut squares) = (0.0, 0.0);
    for (at, rss) in points {
        products += (at - middle) * (rss - level);
        squares += (at - middle).powi(2);
    }
    Some(products / squares * 3_600.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::IntervalLatency;

    fn interval(at: f64, rss: u64, p99: u64) -> Interval {
        let push = Some(IntervalLatency { p99, ..IntervalLatency::default() });
        Interval { at, gateway_rss: Some(rss), push, ..Interval::default() }
    }

    #[test]
    fn memory_that_grows_evenly_has_its_slope() {
        let timeline: Vec<Interval> = (0..60)
            .map(|at| interval(f64::from(at), 1_000_000 + 1_000 * u64::try_from(at).unwrap(), 1))
            .collect();
        let slope = slope(&timeline).unwrap();
        assert!((slope - 3_600_000.0).abs() < 1.0, "{slope}");
    }

    #[test]
    fn drift_compares_the_last_third_with_the_first() {
        let timeline: Vec<Interval> =
            (0..30).map(|at| interval(f64::from(at), 0, if at < 20 { 100 } else { 250 })).collect();
        assert_eq!(drift(&timeline), Some(2.5));
        assert_eq!(drift(&timeline[..2]), None);
    }
}
