//! Summaries as runs leave them: one that passed, one with a stall and losses, one with a growing rate, one of nothing.

use std::collections::BTreeMap;

use crate::gate::{Class, GateResult};
use crate::summary::{
    Deliveries, FORMAT, Gaps, Interval, IntervalLatency, Latency, Mark, Run, SERIES, Sockets, Stage, Summary,
    Usage, Verdict,
};

/// What an attacker, or a broken server, could answer.
const NASTY: &str = "<script>alert(1)</script><img src=http://evil.example onerror=\"x()\">&amp;\u{1b}[31m";

/// A run whose criteria hold.
pub(crate) fn passed(intervals: usize) -> Summary {
    let offered = 2_000 * intervals as u64;
    let values = [
        ("rss_per_socket", 5_222.0),
        ("gateway_cpu_per_push", 18.34),
        ("generator_rss_per_socket", 6_144.0),
        ("generator_cpu_per_push", 24.1),
        ("push_p99", 1_034.0),
    ];
    Summary {
        interrupted: false,
        baseline: None,
        format: FORMAT,
        run: run(intervals as f64),
        verdict: Verdict::Passed,
        gates: vec![
            gate("lost==0", "0", true, Class::Delivery, true),
            gate("duplicates==0", "0", true, Class::Delivery, true),
            gate("push_p99<50ms", "1.03 ms", true, Class::Latency, false),
            gate("lateness_p99<1ms", "213 µs", true, Class::Validity, true),
        ],
        deliveries: Deliveries {
            offered,
            sent: offered,
            accepted: offered,
            expected: offered,
            received: offered,
            ..Deliveries::default()
        },
        latencies: latencies(offered, &["push", "service", "post", "connect", "dispatch", "lateness"]),
        timeline: (0..intervals).map(|at| interval(at, intervals, false)).collect(),
        marks: Vec::new(),
        stages: Vec::new(),
        sockets: Sockets {
            asked: 5_000,
            connected: 5_000,
            all_after_seconds: Some(1.27),
            at_end: 5_000,
            ..Sockets::default()
        },
        gateway: Some(usage("/proc of the process that listens on port 8080")),
        generator: usage("/proc of this process"),
        values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        errors: Vec::new(),
        notes: vec!["target and tool share 2 cores: latencies contain the tool's own work".to_owned()],
    }
}

/// A run in which the target stalled, and lost and doubled something.
pub(crate) fn failed(intervals: usize) -> Summary {
    let calm = passed(intervals);
    let offered = calm.deliveries.offered;
    let end = intervals as f64;
    let mark = |share: f64, what: &str| Mark { at: end * share, what: what.to_owned() };
    let mut latencies = latencies(
        offered,
        &["push", "service", "post", "spread", "connect", "resume", "dispatch", "lateness"],
    );
    if let Some(push) = latencies.get_mut("push") {
        let stall = |share: f64| 812_000.0 + 1_190_000.0 * (share - 0.985) / 0.015;
        let slower = curve(offered, |share| if share > 0.985 { stall(share) } else { 0.0 });
        *push = latency(offered, slower);
    }
    Summary {
        verdict: Verdict::DeliveryFailed,
        gates: vec![
            gate("duplicates==0", "0", true, Class::Delivery, true),
            gate("push_p99<50ms", "812 ms", false, Class::Latency, false),
            gate("lost==0", "31", false, Class::Delivery, true),
            gate("rss_per_socket<8KiB", "5.1 KiB", true, Class::Latency, false),
        ],
        deliveries: Deliveries {
            accepted: offered - 4,
            unknown: 4,
            retried: 12,
            received: offered - 31,
            lost: 31,
            announced: 20,
            duplicates: 2,
            gaps: [("overflow", 3, 18), (NASTY, 1, 2)]
                .map(|(reason, gaps, missing)| (reason.to_owned(), Gaps { gaps, missing }))
                .into(),
            findings: vec![
                "stream 17: number 204 was never received by user lt-7f3a-17 (accepted after 1.2 s)"
                    .to_owned(),
                "stream 902: number 77 came twice".to_owned(),
                NASTY.to_owned(),
            ],
            ..calm.deliveries
        },
        latencies,
        timeline: (0..intervals).map(|at| interval(at, intervals, true)).collect(),
        marks: vec![
            mark(0.4, "the gateway's process was stopped"),
            mark(0.46, "and continued"),
            mark(0.8, "500 sockets were cut off"),
            mark(0.81, NASTY),
        ],
        sockets: Sockets {
            reconnected: 497,
            reconnects_failed: 3,
            at_end: 4_997,
            closes: [(1006, 500), (4108, 12), (1012, 3)].into(),
            drains: 3,
            ..calm.sockets
        },
        errors: vec![
            ("POST: operation timed out".to_owned(), 1_204),
            (NASTY.to_owned(), 3),
            ("an_error_without_a_single_space_".repeat(6), 1),
        ],
        run: Run { url: format!("http://127.0.0.1:8080/{NASTY}"), ..calm.run },
        ..calm
    }
}

/// A run whose rate grows until the target falls behind.
pub(crate) fn ramp() -> Summary {
    let stage = |rate: f64| {
        let kept_up = rate < 10_000.0;
        let slow = if kept_up { 1 } else { 400 };
        let push = IntervalLatency { p50: 240 * slow, p90: 500 * slow, p99: 1_100 * slow, max: 4_000 * slow };
        Stage { rate, achieved: rate.min(9_480.0), push, kept_up }
    };
    let calm = passed(60);
    Summary {
        stages: [1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 32_000.0].map(stage).into(),
        run: Run { scenario: "ramp".to_owned(), rate: 32_000.0, shard: Some((1, 3)), ..calm.run },
        // Every notification goes to many.
        timeline: calm
            .timeline
            .into_iter()
            .map(|interval| Interval { received: interval.received * 50, ..interval })
            .collect(),
        marks: (0..40)
            .map(|at| Mark { at: f64::from(at) * 1.5, what: format!("node {at} was asked to drain") })
            .collect(),
        verdict: Verdict::TooSlow,
        gates: Vec::new(),
        ..calm
    }
}

/// A run that did not take place.
pub(crate) fn skipped() -> Summary {
    let calm = passed(0);
    Summary {
        verdict: Verdict::Skipped,
        run: Run {
            scenario: "resume".to_owned(),
            sockets: 1,
            duration_seconds: 30.0,
            adapter: "fastapi".to_owned(),
            ..calm.run
        },
        gates: Vec::new(),
        deliveries: Deliveries::default(),
        latencies: BTreeMap::from([("push".to_owned(), Latency::default())]),
        sockets: Sockets::default(),
        gateway: None,
        generator: Usage::default(),
        values: BTreeMap::new(),
        notes: vec!["fastapi cannot resume".to_owned()],
        ..calm
    }
}

fn run(seconds: f64) -> Run {
    let arguments =
        ["steady", "--url", "http://127.0.0.1:8080", "--sockets", "5000", "--gate", "push_p99<50ms"];
    Run {
        id: "lt-7f3a".to_owned(),
        scenario: "steady".to_owned(),
        question: "Does everything arrive, and how fast, at a constant rate?".to_owned(),
        started_at: "2026-11-02T09:14:07Z".to_owned(),
        url: "http://127.0.0.1:8080".to_owned(),
        further_urls: Vec::new(),
        adapter: "gateway".to_owned(),
        arguments: arguments.map(str::to_owned).into(),
        version: "0.1.0".to_owned(),
        cores: 2,
        sockets: 5_000,
        rate: 2_000.0,
        duration_seconds: seconds,
        offered_from_seconds: 0.0,
        warm_up_seconds: 3.0_f64.min(seconds),
        size: 128,
        shard: None,
    }
}

fn gate(text: &str, measured: &str, passed: bool, class: Class, default: bool) -> GateResult {
    GateResult { text: text.to_owned(), measured: measured.to_owned(), passed, class, default }
}

fn usage(source: &str) -> Usage {
    Usage {
        source: source.to_owned(),
        rss_before: 19_922_944,
        rss_connected: 46_030_848,
        rss_max: 61_341_696,
        cpu_seconds: 10.42,
    }
}

/// A number between 0 and 1 that looks like chance and is always the same.
fn noise(seed: usize) -> f64 {
    let mut mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 40) as f64 / f64::from(1_u32 << 24)
}

fn curve(count: u64, slower: impl Fn(f64) -> f64) -> Vec<(f64, u64)> {
    let steps = ((count.max(2) as f64).log10() * 20.0) as i32;
    let share = |step: i32| 1.0 - 10_f64.powf(-f64::from(step) / 20.0);
    let micros = |share: f64| (110.0 + 180.0 * (1.0 - share).powf(-0.3)).max(slower(share)) as u64;
    (0..=steps).map(|step| (share(step), micros(share(step)))).chain([(1.0, micros(share(steps)))]).collect()
}

fn latency(count: u64, curve: Vec<(f64, u64)>) -> Latency {
    let at = |wanted: f64| curve.iter().find(|(share, _)| *share >= wanted).map_or(0, |(_, us)| *us);
    let [min, p50, p90, p99, p999, p9999, max] = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0].map(at);
    Latency {
        count,
        mean: p50 as f64 * 1.2,
        min,
        p50,
        p90,
        p99,
        p999,
        p9999,
        max,
        curve,
        histogram: String::new(),
    }
}

fn latencies(sent: u64, measured: &[&str]) -> BTreeMap<String, Latency> {
    let of = |at: usize, name: &str| {
        if !measured.contains(&name) || sent == 0 {
            return Latency::default();
        }
        let scale = [1.0, 0.8, 1.3, 2.0, 9.0, 40.0, 0.3, 0.1, 0.2, 0.5][at];
        let count = if matches!(name, "connect" | "resume") { 5_000 } else { sent };
        let curve = curve(count, |_| 0.0).into_iter().map(|(share, us)| (share, (us as f64 * scale) as u64));
        latency(count, curve.collect())
    };
    SERIES.iter().enumerate().map(|(at, (name, _))| ((*name).to_owned(), of(at, name))).collect()
}

/// One second of a run; `stalls`: for a while after two fifths of it, the target did nothing.
fn interval(at: usize, intervals: usize, stalls: bool) -> Interval {
    let share = at as f64 / intervals as f64;
    let slow = if stalls && (0.4..0.46).contains(&share) {
        2_000_000.0 * (1.0 - (share - 0.4) / 0.06) + 90_000.0
    } else {
        0.0
    };
    let silent = stalls && intervals > 1 && (0.44..0.46).contains(&share);
    let micros = |base: f64, seed: usize| (base * (0.85 + 0.5 * noise(at * 7 + seed)) + slow) as u64;
    let push = IntervalLatency {
        p50: micros(230.0, 1),
        p90: micros(420.0, 2),
        p99: micros(1_000.0, 3),
        max: micros(4_000.0, 4),
    };
    let heat: BTreeMap<u64, u64> = (0..40)
        .map(|step| {
            let bound = 2_f64.powf(f64::from(step) / 4.0) * 110.0;
            let samples = 700.0
                * (-((bound / 240.0).ln() / 0.45).powi(2)).exp()
                * (0.6 + 0.8 * noise(at * 41 + step as usize));
            (
                (bound + slow) as u64,
                (samples + 0.06 / bound * 110.0 * noise(at + step as usize * 3) * 20.0) as u64,
            )
        })
        .filter(|(_, samples)| *samples > 0)
        .collect();
    Interval {
        at: at as f64,
        seconds: 1.0,
        offered: 2_000,
        accepted: if silent { 0 } else { 1_985 + (noise(at) * 30.0) as u64 },
        failed: if silent { 4 } else { 0 },
        received: if silent { 0 } else { 1_980 + (noise(at + 5) * 40.0) as u64 },
        push: (!silent).then_some(push),
        lateness_p99: Some(60 + (noise(at + 9) * 200.0) as u64),
        heat: if silent { Vec::new() } else { heat.into_iter().collect() },
        sockets: if stalls && (0.8..0.85).contains(&share) { 4_500 } else { 5_000 },
        gateway_rss: Some(46_030_848 + (share * 15e6) as u64 + (noise(at) * 4e5) as u64),
        gateway_cpu: Some(if silent { 0.0 } else { 0.31 + 0.06 * noise(at + 2) }),
        generator_rss: Some(52_030_848 + (share * 5e6) as u64),
        generator_cpu: Some(0.44 + 0.05 * noise(at + 3)),
    }
}
