//! A long run's intervals, put together until a plot has room for them.

use std::collections::BTreeMap;

use crate::summary::{Interval, IntervalLatency};

/// Intervals that a plot has room for.
pub(crate) const MAX_INTERVALS: usize = 400;

/// The intervals, several in one when there are too many. Counts are added; of latencies the worst remains, because
/// percentiles cannot be added and a peak must not disappear.
pub(crate) fn drawn(intervals: &[Interval]) -> Vec<Interval> {
    let together = intervals.len().div_ceil(MAX_INTERVALS).max(1);
    intervals.chunks(together).filter_map(|group| group.iter().cloned().reduce(joined)).collect()
}

fn joined(one: Interval, next: Interval) -> Interval {
    let mut heat: BTreeMap<u64, u64> = one.heat.into_iter().collect();
    for (bound, samples) in next.heat {
        *heat.entry(bound).or_default() += samples;
    }
    Interval {
        at: one.at,
        seconds: next.at + next.seconds - one.at,
        offered: one.offered + next.offered,
        accepted: one.accepted + next.accepted,
        failed: one.failed + next.failed,
        received: one.received + next.received,
        push: either(one.push, next.push, worst),
        lateness_p99: one.lateness_p99.max(next.lateness_p99),
        heat: heat.into_iter().collect(),
        sockets: next.sockets,
        gateway_rss: next.gateway_rss.or(one.gateway_rss),
        gateway_cpu: mean((one.gateway_cpu, one.seconds), (next.gateway_cpu, next.seconds)),
        generator_rss: next.generator_rss.or(one.generator_rss),
        generator_cpu: mean((one.generator_cpu, one.seconds), (next.generator_cpu, next.seconds)),
    }
}

fn worst(one: IntervalLatency, other: IntervalLatency) -> IntervalLatency {
    IntervalLatency {
        p50: one.p50.max(other.p50),
        p90: one.p90.max(other.p90),
        p99: one.p99.max(other.p99),
        max: one.max.max(other.max),
    }
}

/// The mean of two values that were measured for so many seconds.
fn mean((one, before): (Option<f64>, f64), (next, after): (Option<f64>, f64)) -> Option<f64> {
    either(one, next, |one, next| (one * before + next * after) / (before + after).max(f64::MIN_POSITIVE))
}

fn either<T>(one: Option<T>, other: Option<T>, both: impl Fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_sums_its_ends_and_its_peaks() {
        let intervals: Vec<Interval> = (0..14_400_u64)
            .map(|at| Interval {
                at: at as f64,
                seconds: 1.0,
                offered: 10,
                push: Some(IntervalLatency {
                    max: u64::from(at == 7_000) * 999,
                    ..IntervalLatency::default()
                }),
                heat: vec![(200, 4), (at, 1)],
                gateway_cpu: Some(0.5),
                ..Interval::default()
            })
            .collect();
        let drawn = drawn(&intervals);
        assert!(drawn.len() <= MAX_INTERVALS);
        assert_eq!(drawn.iter().map(|interval| interval.offered).sum::<u64>(), 144_000);
        assert_eq!(
            drawn.iter().flat_map(|interval| &interval.heat).map(|(_, samples)| samples).sum::<u64>(),
            72_000
        );
        assert_eq!(drawn.iter().filter_map(|interval| interval.push).map(|push| push.max).max(), Some(999));
        let last = drawn.last().unwrap();
        assert!((last.at + last.seconds - 14_400.0).abs() < 1e-6);
        assert!(
            drawn.iter().all(|interval| interval.gateway_cpu.is_some_and(|cpu| (cpu - 0.5).abs() < 1e-9))
        );
    }

    #[test]
    fn a_short_run_is_drawn_as_it_is() {
        let intervals = vec![Interval { at: 1.0, ..Interval::default() }; MAX_INTERVALS];
        assert_eq!(drawn(&intervals), intervals);
        assert!(drawn(&[]).is_empty());
    }
}
