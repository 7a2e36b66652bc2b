//! The tool's own `/metrics`: what it sent, received and felt, while it runs, to be laid beside what the target says.
//!
//! A metric is declared once: the doc comment of a field is its help text. Every handle is resolved when the exporter is
//! made and every combination of labels exists from then on, so that `rate()` sees the first event. There is no series for
//! a user or a socket. Counting works without a server; [`Exporter::serve`] adds one, which [`Served::linger`] keeps up
//! until the last numbers were fetched.

mod serve;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub use serve::Served;

/// Edges for push latency, seconds: the gateway's own, so that both can be laid on each other.
const PUSH_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Edges for the pacer's lateness, seconds: it is to stay far below what is measured.
const LATENESS_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];

/// Receptions that did not happen.
#[derive(Debug)]
pub struct Missing {
    /// Those that a gap announced.
    pub announced: IntCounter,
    /// Those that nothing announced.
    pub silent: IntCounter,
}

/// Sends by what the target answered.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Owed to the receivers.
    pub accepted: IntCounter,
    /// Refused for good.
    pub refused: IntCounter,
    /// Without an answer that tells.
    pub unknown: IntCounter,
}

/// Push latency by where it is counted from, seconds.
#[derive(Debug, Clone)]
pub struct PushLatency {
    /// From the moment at which the send was due.
    pub intended: Histogram,
    /// From the moment at which its POST was begun.
    pub service: Histogram,
}

macro_rules! declare {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $make:expr;)*) => {
        /// The tool's metrics, ready to be counted.
        #[derive(Debug)]
        pub struct Exporter {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl Exporter {
            /// Registers every metric in a registry of its own.
            fn declared() -> Self {
                let registry = Registry::new();
                $(let $field: $type = {
                    let help = concat!($($help),+).trim();
                    let make: fn(&Registry, &str) -> $type = $make;
                    make(&registry, help)
                };)*
                Self { registry, $($field,)* }
            }
        }
    };
}

declare! {
    /// 1, with what is run against what.
    run_info: IntGaugeVec = |registry, help| {
        let options = Opts::new("loadtest_run_info", help);
        registered(registry, IntGaugeVec::new(options, &["run", "scenario", "target"]))
    };
    /// Notifications sent, repetitions not counted, by what the target answered.
    sent: Sent = |registry, help| {
        let vector = IntCounterVec::new(Opts::new("loadtest_sent_total", help), &["result"]);
        let vector = registered(registry, vector);
        let [accepted, refused, unknown] =
            ["accepted", "refused", "unknown"].map(|result| vector.with_label_values(&[result]));
        Sent { accepted, refused, unknown }
    };
    /// Receptions: a notification at a socket for the first time.
    received: IntCounter = |registry, help| counter(registry, "loadtest_received_total", help);
    /// Receptions that are owed and did not happen, by whether a gap announced them; known only when a run has waited for stragglers.
    missing: Missing = |registry, help| {
        let vector = IntCounterVec::new(Opts::new("loadtest_missing_total", help), &["announced"]);
        let vector = registered(registry, vector);
        let [announced, silent] = ["yes", "no"].map(|announced| vector.with_label_values(&[announced]));
        Missing { announced, silent }
    };
    /// Receptions of what the same socket had received before.
    duplicates: IntCounter = |registry, help| counter(registry, "loadtest_duplicates_total", help);
    /// Receptions behind one that was sent later.
    order_violations: IntCounter = |registry, help| counter(registry, "loadtest_order_violations_total", help);
    /// Sockets that are connected.
    users: IntGauge = |registry, help| registered(registry, IntGauge::new("loadtest_users", help));
    /// Notifications a second that are due now.
    offered_rate: Gauge = |registry, help| registered(registry, Gauge::new("loadtest_offered_rate", help));
    /// Time to the frame read at the receiver, from when the send was due (`intended`) or from when its POST was begun (`service`).
    push_latency: PushLatency = |registry, help| {
        let options = HistogramOpts::new("loadtest_push_latency_seconds", help).buckets(PUSH_SECONDS.to_vec());
        let vector = registered(registry, HistogramVec::new(options, &["kind"]));
        let [intended, service] = ["intended", "service"].map(|kind| vector.with_label_values(&[kind]));
        PushLatency { intended, service }
    };
    /// How much later than due the pacer handed a send over: this tool's own delay.
    pacer_lateness: Histogram = |registry, help| {
        let options = HistogramOpts::new("loadtest_pacer_lateness_seconds", help);
        registered(registry, Histogram::with_opts(options.buckets(LATENESS_SECONDS.to_vec())))
    };
    /// The exit code that the run ends with; NaN while it runs.
    verdict: Gauge = |registry, help| registered(registry, Gauge::new("loadtest_verdict", help));
}

impl Exporter {
    /// Everything at 0, and no verdict. The three texts name the run in `loadtest_run_info`.
    #[must_use]
    pub fn new(run: &str, scenario: &str, target: &str) -> Self {
        let exporter = Self::declared();
        exporter.run_info.with_label_values(&[run, scenario, target]).set(1);
        // A run without a verdict is neither passed nor failed.
        exporter.verdict.set(f64::NAN);
        exporter
    }

    /// The text exposition format, version 0.0.4.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("a vector takes every byte");
        text
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("names and labels are fixed and valid");
    registry.register(Box::new(collector.clone())).expect("each name is declared once");
    collector
}

#[cfg(test)]
mod tests;
