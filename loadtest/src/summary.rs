//! What came of a run: everything that is printed, drawn, compared, merged or gated is in here, and nothing else is.
//!
//! It is what `--json` writes and what `--baseline`, `merge` and `compare` read. Fields only grow within a [`FORMAT`].
//! Latencies are microseconds, times are seconds since the run's start, memory is bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gate::GateResult;

/// The version of this document.
pub const FORMAT: u32 = 1;

/// A run and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of this document: [`FORMAT`].
    pub format: u32,
    /// What was run against what.
    pub run: Run,
    /// How it ended.
    pub verdict: Verdict,
    /// Every criterion, with what was measured.
    pub gates: Vec<GateResult>,
    /// What was delivered and what was not.
    pub deliveries: Deliveries,
    /// Distributions by name: see [`SERIES`]. A name whose count is 0 was not measured.
    pub latencies: BTreeMap<String, Latency>,
    /// What happened in each interval, in order.
    pub timeline: Vec<Interval>,
    /// Things that were done to the target or the sockets, in order.
    pub marks: Vec<Mark>,
    /// The steps of a run whose rate grows; otherwise empty.
    pub stages: Vec<Stage>,
    /// The sockets.
    pub sockets: Sockets,
    /// What the target's process used; absent: not measured.
    pub gateway: Option<Usage>,
    /// What this process used.
    pub generator: Usage,
    /// Every number that a gate can name.
    pub values: BTreeMap<String, f64>,
    /// What went wrong, by text, with how often; the most frequent first, at most 20.
    pub errors: Vec<(String, u64)>,
    /// What a reader should know before trusting a number.
    pub notes: Vec<String>,
    /// Whether somebody ended it early.
    #[serde(default)]
    pub interrupted: bool,
    /// What the run that it was compared with measured.
    #[serde(default)]
    pub baseline: Option<BTreeMap<String, f64>>,
}

/// The distributions a run may measure, with what each one is.
pub const SERIES: [(&str, &str); 10] = [
    ("push", "intended send time to frame read: what a receiver feels, stalls of the sender included"),
    ("service", "POST begun to frame read: the target alone"),
    ("post", "POST begun to its answer"),
    ("spread", "first to last receiver of the same notification"),
    ("connect", "connect begun to the socket's welcome"),
    ("resume", "reconnect begun to having everything that was missed"),
    (
        "queue",
        "handed over by the pacer to its sender being free: an earlier POST of the same sender had no answer yet",
    ),
    ("dispatch", "the sender being free to POST begun: this tool's own delay"),
    ("lateness", "due to handed over: the pacer's own delay"),
    ("wakeup", "what a task of this tool wakes up late: with it, frames are read late"),
];

/// What was run against what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Names the run; part of every user's name.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The question it answers.
    pub question: String,
    /// When it began, RFC 3339, UTC.
    pub started_at: String,
    /// The target's address; of several nodes the first one's.
    pub url: String,
    /// The addresses of its other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_urls: Vec<String>,
    /// The kind of target: `gateway`, `fastapi`.
    pub adapter: String,
    /// How it was called, without the program.
    pub arguments: Vec<String>,
    /// This tool's version.
    pub version: String,
    /// Cores of this machine.
    pub cores: usize,
    /// Sockets asked for.
    pub sockets: usize,
    /// Notifications a second, offered. Of a growing rate: the highest.
    pub rate: f64,
    /// When the first notification was due, seconds since the run's start.
    #[serde(default)]
    pub offered_from_seconds: f64,
    /// Seconds during which notifications were offered, the warm-up included.
    pub duration_seconds: f64,
    /// Seconds at the beginning that count for delivery and not for latency.
    pub warm_up_seconds: f64,
    /// Bytes of text in a notification.
    pub size: usize,
    /// Which part of a run that several processes share: `(number from 1, how many)`.
    pub shard: Option<(usize, usize)>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every criterion holds.
    Passed,
    /// A latency criterion, or one of cost, does not hold.
    TooSlow,
    /// Something was lost, came twice, in the wrong order or to the wrong one.
    DeliveryFailed,
    /// The run says nothing about the target: no samples, or this tool was too slow.
    Invalid,
    /// The target cannot do what the scenario asks.
    Skipped,
}

/// What was delivered and what was not. A *reception* is one notification at one socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Notifications that were due.
    pub offered: u64,
    /// POSTs that were begun, repetitions not counted.
    pub sent: u64,
    /// Of these, accepted.
    pub accepted: u64,
    /// Of these, refused for good: the target promises that nothing was delivered.
    pub refused: u64,
    /// Of these, without an answer that tells.
    pub unknown: u64,
    /// POSTs that were repeated with the same Idempotency-Key.
    pub retried: u64,
    /// POSTs that were not accepted, each repetition counted.
    #[serde(default)]
    pub failed_attempts: u64,
    /// The longest time in which sends were under way and none was accepted, microseconds.
    #[serde(default)]
    pub longest_outage: u64,
    /// Receptions that the target owes.
    pub expected: u64,
    /// Of these, the ones that happened.
    pub received: u64,
    /// Of these, the ones that did not, announced or not.
    pub lost: u64,
    /// Of the lost ones, those that a gap announced.
    pub announced: u64,
    /// Receptions of what the same socket had received before.
    pub duplicates: u64,
    /// Receptions behind one that was sent later.
    pub out_of_order: u64,
    /// Receptions of what was refused, never sent, or meant for somebody else.
    pub unexpected: u64,
    /// Gaps by reason, with the notifications they say are missing.
    pub gaps: BTreeMap<String, Gaps>,
    /// The first things that were wrong, in words; at most 20.
    pub findings: Vec<String>,
}

/// The gaps of one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// How many gaps.
    pub gaps: u64,
    /// How many notifications they say are missing.
    pub missing: u64,
}

/// A distribution, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The smallest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// 90 of 100 are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1,000 are at most this.
    pub p999: u64,
    /// 9,999 of 10,000 are at most this.
    pub p9999: u64,
    /// The largest.
    pub max: u64,
    /// The distribution for a plot: share of samples (0 to 1) that are at most so many microseconds, ascending.
    pub curve: Vec<(f64, u64)>,
    /// The whole histogram: HdrHistogram V2, deflated, base64.
    pub histogram: String,
}

impl Latency {
    /// What a gate can be about, by name.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^52")]
    pub fn statistics(&self) -> [(&'static str, f64); 6] {
        let Self { p50, p90, p99, p999, p9999, max, .. } = *self;
        [("p50", p50), ("p90", p90), ("p99", p99), ("p999", p999), ("p9999", p9999), ("max", max)]
            .map(|(name, value)| (name, value as f64))
    }
}

/// What happened in one interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, seconds since the run's start.
    pub at: f64,
    /// How long it is, seconds.
    pub seconds: f64,
    /// Notifications due in it.
    pub offered: u64,
    /// Accepted in it.
    pub accepted: u64,
    /// Refused, failed or unknown in it.
    pub failed: u64,
    /// Received in it, at all sockets.
    pub received: u64,
    /// Push latency of the notifications that were *due* in it; absent: none was received.
    pub push: Option<IntervalLatency>,
    /// 99th percentile of the pacer's lateness in it, microseconds.
    pub lateness_p99: Option<u64>,
    /// Push latencies of the notifications due in it: (upper bound of a cell, microseconds, ascending; samples).
    pub heat: Vec<(u64, u64)>,
    /// Sockets that were connected at its end.
    pub sockets: u64,
    /// The target's resident memory at its end, bytes.
    pub gateway_rss: Option<u64>,
    /// Cores the target kept busy in it: 1.0 is one core.
    pub gateway_cpu: Option<f64>,
    /// This process's resident memory at its end, bytes.
    pub generator_rss: Option<u64>,
    /// Cores this process kept busy in it.
    pub generator_cpu: Option<f64>,
}

/// Push latency in an interval, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalLatency {
    /// The median.
    pub p50: u64,
    /// 90 of 100 are at most this.
    pub p90: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// Something that was done, to be seen in the plots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When, seconds since the run's start.
    pub at: f64,
    /// What, in a few words.
    pub what: String,
}

/// One step of a growing rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Notifications a second that were due.
    pub rate: f64,
    /// Notifications a second that were accepted.
    pub achieved: f64,
    /// Its push latency.
    pub push: IntervalLatency,
    /// Whether the target kept up.
    pub kept_up: bool,
}

/// The sockets of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sockets {
    /// Asked for.
    pub asked: u64,
    /// Connected at the first attempt.
    pub connected: u64,
    /// First attempts that failed.
    pub failed: u64,
    /// Seconds from the first connect to the last welcome.
    pub all_after_seconds: Option<f64>,
    /// Successful connects after the first.
    pub reconnected: u64,
    /// Attempts to come back that failed.
    pub reconnects_failed: u64,
    /// Connected when the run ended.
    pub at_end: u64,
    /// Closes that this tool did not ask for, by close code; 1006: none was sent.
    pub closes: BTreeMap<u16, u64>,
    /// `drain` frames.
    pub drains: u64,
}

/// What a process used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Where the numbers come from, in words.
    pub source: String,
    /// Resident memory before the first socket, bytes.
    pub rss_before: u64,
    /// Resident memory with all sockets connected and nothing sent, bytes.
    pub rss_connected: u64,
    /// The largest resident memory that was seen, bytes.
    pub rss_max: u64,
    /// Processor time while notifications were offered, seconds.
    pub cpu_seconds: f64,
}
