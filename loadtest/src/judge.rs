//! From what was seen to the summary: values, gates, verdict.

mod values;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::collector::{Counters, seconds};
use crate::context::Context;
use crate::gate::{Class, Gate, GateResult, Values, effective};
use crate::nodes::Nodes;
use crate::plan::Plan;
use crate::run::Readings;
use crate::scenario::Kind;
use crate::scenario::script::Findings;
use crate::summary::{Deliveries, FORMAT, Interval, Latency, Run, Sockets, Summary, Usage, Verdict};

/// Everything that was seen.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// The target.
    pub nodes: &'a Nodes,
    /// The run.
    pub context: &'a Context,
    /// What the script found.
    pub findings: Findings,
    /// What happened when.
    pub timeline: Vec<Interval>,
    /// Sockets that had not come back at the end.
    pub missing_sockets: u64,
    /// What both processes used.
    pub readings: Readings,
    /// Whether the target is another process now than at the beginning.
    pub restarted: bool,
    /// Where the target's numbers come from.
    pub gateway_source: Option<String>,
    /// When the first notification was due, microseconds.
    pub offered_from: u64,
    /// When nothing more was offered.
    pub offered_until: u64,
    /// What the gateway's books are out by.
    pub ledger: Option<f64>,
    /// What 99 % of the gateway's appends to its log took at most, microseconds.
    pub log_append_p99: Option<f64>,
    /// Somebody wanted it to end.
    pub interrupted: bool,
}

/// Judges.
#[must_use]
pub fn judge(evidence: Evidence<'_>) -> Summary {
    let latencies = evidence.context.collector.latencies();
    let deliveries = evidence.deliveries();
    let values = evidence.values(&latencies, &deliveries);
    let plan = evidence.plan;
    let mut gates = plan.gates.clone();
    gates.push("ledger_imbalance=0".parse().expect("a gate"));
    let notes = evidence.notes(&latencies, &gates, &values);
    // What only the target could tell is not held against it by a scenario, only by who asks for it.
    gates.retain(|gate| {
        values.contains_key(gate.metric().name()) || !gate.metric().needs_the_targets_numbers()
    });
    let gates = judge_gates(&gates, &plan.flag_gates, &values, plan.baseline.as_ref());
    let mut run = describe(plan, evidence.context.adapter.name(), evidence.nodes);
    run.offered_from_seconds = seconds(evidence.offered_from);
    if let Some(stage) = evidence.findings.stages.last() {
        // A growing rate ends where it was too much.
        run.rate = stage.rate;
        run.duration_seconds = seconds(evidence.offered_until - evidence.offered_from).round();
    }
    let failures = evidence.findings.failures.iter().map(|failure| (failure.clone(), 1));
    Summary {
        format: FORMAT,
        run,
        verdict: verdict(&gates, evidence.interrupted),
        gates,
        deliveries,
        latencies,
        marks: evidence.context.collector.marks(),
        stages: evidence.findings.stages.clone(),
        sockets: evidence.sockets(),
        gateway: evidence.usage(true),
        generator: evidence.usage(false).unwrap_or_default(),
        values,
        errors: failures.chain(evidence.context.collector.errors()).collect(),
        notes,
        interrupted: evidence.interrupted,
        baseline: plan.baseline.clone(),
        timeline: evidence.timeline,
    }
}

/// What is known of a run before it begins.
#[must_use]
pub fn describe(plan: &Plan, adapter: &str, nodes: &Nodes) -> Run {
    Run {
        id: plan.run.clone(),
        scenario: plan.scenario.name.to_owned(),
        question: plan.scenario.question.to_owned(),
        started_at: plan.started_at.clone(),
        url: nodes.first().to_string(),
        further_urls: nodes.all()[1..].iter().map(ToString::to_string).collect(),
        adapter: adapter.to_owned(),
        arguments: plan.arguments.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: cores(),
        sockets: plan.sockets,
        rate: plan
            .lanes()
            .iter()
            .map(|lane| lane.steps.iter().map(|step| step.rate).fold(0.0, f64::max))
            .sum(),
        offered_from_seconds: 0.0,
        duration_seconds: plan.duration.as_secs_f64(),
        warm_up_seconds: plan.warm_up.as_secs_f64(),
        size: plan.size,
        shard: plan.shard,
    }
}

/// The summary of a run that did not take place, because the target cannot do what it asks.
#[must_use]
pub fn skipped(plan: &Plan, adapter: &str, nodes: &Nodes, why: &str) -> Summary {
    Summary {
        format: FORMAT,
        run: describe(plan, adapter, nodes),
        verdict: Verdict::Skipped,
        gates: Vec::new(),
        deliveries: Deliveries::default(),
        latencies: BTreeMap::new(),
        timeline: Vec::new(),
        marks: Vec::new(),
        stages: Vec::new(),
        sockets: Sockets::default(),
        gateway: None,
        generator: Usage::default(),
        values: BTreeMap::new(),
        errors: Vec::new(),
        notes: vec![format!("Skipped: {why}.")],
        interrupted: false,
        baseline: None,
    }
}

/// Judges gates; those given by flag take the place of the scenario's on the same metric.
#[must_use]
pub fn judge_gates(
    scenario: &[Gate],
    flags: &[Gate],
    values: &Values,
    baseline: Option<&Values>,
) -> Vec<GateResult> {
    effective(scenario, flags).iter().map(|(gate, default)| gate.judge(values, baseline, *default)).collect()
}

/// The verdict that gates add up to: what was lost weighs more than a run that cannot be believed, and that more than a slow
/// one. A run that somebody ended cannot be believed, except in what it has already shown.
#[must_use]
pub fn verdict(gates: &[GateResult], interrupted: bool) -> Verdict {
    let failed = gates.iter().filter(|gate| !gate.passed).map(|gate| gate.class);
    match failed.chain(interrupted.then_some(Class::Validity)).max() {
        None => Verdict::Passed,
        Some(Class::Latency) => Verdict::TooSlow,
        Some(Class::Validity) => Verdict::Invalid,
        Some(Class::Delivery) => Verdict::DeliveryFailed,
    }
}

impl Verdict {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Skipped => 2,
            Self::TooSlow => 3,
            Self::DeliveryFailed => 4,
            Self::Invalid => 5,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a run are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Evidence<'_> {
    fn counter(&self, pick: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        pick(&self.context.collector.counters).load(Ordering::Relaxed)
    }

    fn sockets(&self) -> Sockets {
        let collector = &self.context.collector;
        let connected = self.counter(|counters| &counters.connected);
        Sockets {
            asked: self.context.receivers.len() as u64,
            connected,
            failed: self.counter(|counters| &counters.connects_failed),
            all_after_seconds: collector.all_connected().map(seconds),
            reconnected: self.counter(|counters| &counters.reconnected),
            reconnects_failed: self.counter(|counters| &counters.reconnects_failed),
            at_end: (self.context.receivers.len() as u64).saturating_sub(self.sockets_less()),
            closes: collector.closes(),
            drains: self.counter(|counters| &counters.drains),
        }
    }

    fn notes(&self, latencies: &BTreeMap<String, Latency>, gates: &[Gate], values: &Values) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |holds: bool, text: &str| {
            if holds {
                notes.push(text.to_owned());
            }
        };
        let p99 = |name: &str| latencies.get(name).map_or(0, |latency| latency.p99);
        let push = latencies.get("push").map_or(0, |push| push.count);
        note(
            p99("dispatch") + p99("lateness") + p99("wakeup") > p99("push") / 2,
            "More than half of push p99 may be this tool's own delay (dispatch, lateness, wakeup): give it cores of its own.",
        );
        note(
            p99("queue") > p99("push") / 2,
            "Much of push p99 is waiting for a sender whose earlier POST had no answer yet: the target is slow to answer, or \
             the senders are too few (--senders).",
        );
        note(
            self.log_append_p99.is_some_and(|append| append > float(p99("push")) / 2.0),
            "Much of push p99 is the gateway waiting for its log (log_append_p99): look at the disk that it is on.",
        );
        note(
            self.findings.tool_was_late,
            "At the rate that was too much this tool's own schedule was late: the knee may be this machine's.",
        );
        note(
            self.readings.before.gateway.is_none(),
            "The target's memory and processor time were not measured: --ops-url, --pid or --spawn.",
        );
        let soak = self.plan.scenario.kind == Kind::Soak;
        note(
            soak && self.plan.duration < Duration::from_secs(7_200),
            "A gateway fills its caches and remembers outcomes for an hour: rss_slope of less than two hours shows that.",
        );
        note((1..1_000).contains(&push), "Below 1,000 samples a p99 is the word of a few.");
        note((1_000..10_000).contains(&push), "Below 10,000 samples p99.99 says nothing.");
        for gate in gates.iter().filter(|gate| gate.metric().needs_the_targets_numbers()) {
            note(
                !values.contains_key(gate.metric().name()),
                &format!("Not judged, because not measured: {gate}."),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(class: Class, passed: bool) -> GateResult {
        GateResult { text: String::new(), measured: String::new(), passed, class, default: true }
    }

    #[test]
    fn the_gravest_failure_decides() {
        let all = [Class::Latency, Class::Validity, Class::Delivery];
        assert_eq!(verdict(&all.map(|class| result(class, true)), false), Verdict::Passed);
        assert_eq!(verdict(&all.map(|class| result(class, false)), false), Verdict::DeliveryFailed);
        assert_eq!(
            verdict(&[result(Class::Latency, false), result(Class::Validity, false)], false),
            Verdict::Invalid
        );
        assert_eq!(
            verdict(&[result(Class::Latency, false), result(Class::Delivery, true)], false),
            Verdict::TooSlow
        );
        assert_eq!(verdict(&[result(Class::Latency, false)], true), Verdict::Invalid);
        assert_eq!(verdict(&[result(Class::Delivery, false)], true), Verdict::DeliveryFailed);
    }
}
