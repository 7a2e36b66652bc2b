//! Which plots a report has, and what is said about them.

use crate::report::plot::scale::Unit;
use crate::report::plot::time::{self, Clock, Line, Stroke, Taken};
use crate::report::plot::{Figure, Heading, Size, heatmap, percentiles, stages};
use crate::report::{number, rows, timeline};
use crate::summary::{Interval, IntervalLatency, Summary};

/// How often more is received than sent before both no longer fit one axis.
const FAN_OUT: f64 = 3.0;

/// The plots of a page, by section.
#[derive(Debug)]
pub(crate) struct Figures {
    /// The distributions of push, service and post.
    pub(crate) percentiles: Vec<Figure>,
    /// Push latency over time.
    pub(crate) over_time: Vec<Figure>,
    /// Push latency over time, all of it.
    pub(crate) heatmap: Vec<Figure>,
    /// What was offered, accepted and received.
    pub(crate) rates: Vec<Figure>,
    /// Sockets over time and how long they took.
    pub(crate) sockets: Vec<Figure>,
    /// Memory and processor of both processes.
    pub(crate) usage: Vec<Figure>,
    /// The tool's own delays.
    pub(crate) delays: Vec<Figure>,
    /// A growing rate; empty when there was none.
    pub(crate) stages: Vec<Figure>,
}

impl Figures {
    /// Draws what the summary holds.
    pub(crate) fn of(summary: &Summary) -> Self {
        let drawn = timeline::drawn(&summary.timeline);
        let clock = Clock { intervals: &drawn, marks: &summary.marks, warm_up: warm_up(summary) };
        Self {
            percentiles: vec![distributions(summary)],
            over_time: vec![push(&clock, drawn.len() < summary.timeline.len())],
            heatmap: vec![heat(&clock)],
            rates: rates(&clock),
            sockets: vec![connected(&clock), connects(summary)],
            usage: usage(&clock),
            delays: vec![lateness(&clock), delays(summary)],
            stages: growth(summary),
        }
    }
}

fn distributions(summary: &Summary) -> Figure {
    let seen = rows::measured(summary, "push").map_or_else(String::new, |push| {
        let [half, most, slowest] = [push.p50, push.p99, push.max].map(number::micros);
        format!(" Half of the pushes took at most {half}, 99 % at most {most}, the slowest {slowest}.")
    });
    let explanation = format!(
        "How long the slowest took: push counts from when a notification was due, service and post from when its POST \
         began. Where push leaves service behind, something had to wait before it could even be sent.{seen}"
    );
    let series = [("push", "c1"), ("service", "c2"), ("post", "c3")]
        .map(|(name, colour)| (name, colour, rows::measured(summary, name)));
    percentiles::plot(Heading::new("percentiles", "Latency by percentile", explanation), Size::Wide, &series)
}

fn push(clock: &Clock<'_>, together: bool) -> Figure {
    let mut explanation =
        "Of the notifications that were due in an interval, whenever they arrived.".to_owned();
    let worst = clock.intervals.iter().filter_map(|interval| Some((interval.at, interval.push?.p99)));
    if let Some((at, p99)) = worst.max_by_key(|(_, p99)| *p99) {
        let (p99, at) = (number::micros(p99), number::seconds(at));
        explanation.push_str(&format!(" The worst p99 is {p99}, {at} after the start."));
    }
    if together {
        explanation.push_str(" Each point shows the worst of several intervals.");
    }
    let of = |value: fn(IntervalLatency) -> u64| {
        values(clock, |interval| interval.push.map(|latency| value(latency) as f64))
    };
    let line = |name, colour, stroke, value| Line { name, colour, stroke, values: of(value) };
    let lines = [
        line("max", "c6", Stroke::Dots, |latency| latency.max),
        line("p99", "c2", Stroke::Line, |latency| latency.p99),
        line("p90", "c3", Stroke::Line, |latency| latency.p90),
        line("p50", "c1", Stroke::Line, |latency| latency.p50),
    ];
    let heading = Heading::new("push", "Push latency over time", explanation);
    time::plot(clock, heading, Size::Wide, (Unit::Latency, "push latency"), Taken::During, &lines)
}

fn heat(clock: &Clock<'_>) -> Figure {
    let explanation = "Every push, by when it was due and how long it took. A stripe above the others is a stall; two \
                       bands are two populations that a percentile would hide.";
    heatmap::plot(clock, Heading::new("heatmap", "Push latency, all of it", explanation))
}

fn rates(clock: &Clock<'_>) -> Vec<Figure> {
    let per_second = |counted: fn(&Interval) -> u64| {
        values(clock, |interval| {
            (interval.seconds > 0.0).then(|| counted(interval) as f64 / interval.seconds)
        })
    };
    let line = |name, colour, stroke, counted| Line { name, colour, stroke, values: per_second(counted) };
    let offered = line("offered", "c5", Stroke::Broad, |interval| interval.offered);
    let accepted = line("accepted", "c1", Stroke::Line, |interval| interval.accepted);
    let failed = line("refused, unknown or repeated", "c2", Stroke::Line, |interval| interval.failed);
    let received = line("received", "c3", Stroke::Broken, |interval| interval.received);
    let sum = |counted: fn(&Interval) -> u64| clock.intervals.iter().map(counted).sum::<u64>();
    let plot = |heading, size, lines: &[Line]| {
        time::plot(clock, heading, size, (Unit::Rate, "notifications a second"), Taken::During, lines)
    };
    let mut lines = vec![offered, accepted];
    if sum(|interval| interval.failed) > 0 {
        lines.push(failed);
    }
    if sum(|interval| interval.received) as f64 <= FAN_OUT * sum(|interval| interval.accepted) as f64 {
        lines.push(received);
        let explanation = "Offered is what was due, accepted what the target took, received what came out at the \
                           sockets. A hole followed by a peak is a backlog that was worked off.";
        return vec![plot(
            Heading::new("rates", "Offered, accepted and received", explanation),
            Size::Wide,
            &lines,
        )];
    }
    let offered = "Offered is what was due, accepted what the target took.";
    let received_words = "What came out at all sockets together; one notification has many receivers.";
    vec![
        plot(Heading::new("rates", "Offered and accepted", offered), Size::Half, &lines),
        plot(Heading::new("receptions", "Received", received_words), Size::Half, &[received]),
    ]
}

fn connected(clock: &Clock<'_>) -> Figure {
    let values = values(clock, |interval| Some(interval.sockets as f64));
    let lines = [Line { name: "connected", colour: "c1", stroke: Stroke::Area, values }];
    let heading = Heading::new("sockets", "Sockets connected", "At the end of each interval.");
    time::plot(clock, heading, Size::Half, (Unit::Count, "sockets"), Taken::AtEnd, &lines)
}

fn connects(summary: &Summary) -> Figure {
    let explanation = "Connect ends with the welcome, resume with having everything that was missed.";
    let series = [("connect", "c1"), ("resume", "c4")]
        .map(|(name, colour)| (name, colour, rows::measured(summary, name)));
    percentiles::plot(Heading::new("connect", "Connect latency", explanation), Size::Half, &series)
}

fn usage(clock: &Clock<'_>) -> Vec<Figure> {
    let memory = |id, title, colour, bytes: fn(&Interval) -> Option<u64>| {
        let values = values(clock, |interval| bytes(interval).map(|bytes| bytes as f64));
        let lines = [Line { name: "resident memory", colour, stroke: Stroke::Area, values }];
        let heading = Heading::new(id, title, "Resident memory at the end of each interval.");
        time::plot(clock, heading, Size::Half, (Unit::Bytes, "resident memory"), Taken::AtEnd, &lines)
    };
    let processor = |id, title, colour, cores: fn(&Interval) -> Option<f64>| {
        let lines = [Line { name: "cores busy", colour, stroke: Stroke::Area, values: values(clock, cores) }];
        let heading = Heading::new(id, title, "Cores kept busy: 1.0 is one core.");
        time::plot(clock, heading, Size::Half, (Unit::Cores, "cores"), Taken::During, &lines)
    };
    vec![
        memory("gateway-memory", "Gateway: memory", "c1", |interval| interval.gateway_rss),
        processor("gateway-processor", "Gateway: processor", "c1", |interval| interval.gateway_cpu),
        memory("generator-memory", "Generator: memory", "c4", |interval| interval.generator_rss),
        processor("generator-processor", "Generator: processor", "c4", |interval| interval.generator_cpu),
    ]
}

fn lateness(clock: &Clock<'_>) -> Figure {
    let values = values(clock, |interval| interval.lateness_p99.map(|micros| micros as f64));
    let lines = [Line { name: "p99", colour: "c5", stroke: Stroke::Line, values }];
    let explanation = "How late the pacer handed notifications over: the tool's fault, and part of push.";
    let heading = Heading::new("lateness", "Pacer lateness over time", explanation);
    time::plot(clock, heading, Size::Half, (Unit::Latency, "lateness"), Taken::During, &lines)
}

fn delays(summary: &Summary) -> Figure {
    let explanation =
        "Dispatch is from a free sender to its POST, wakeup how late tasks run. All belong far below push.";
    let series = [("lateness", "c5"), ("dispatch", "c4"), ("wakeup", "c1")]
        .map(|(name, colour)| (name, colour, rows::measured(summary, name)));
    percentiles::plot(Heading::new("dispatch", "Delays of this tool", explanation), Size::Half, &series)
}

fn growth(summary: &Summary) -> Vec<Figure> {
    if summary.stages.is_empty() {
        return Vec::new();
    }
    let achieved =
        Heading::new("stages", "Offered against accepted", "Below the broken line the target fell behind.");
    let latency =
        Heading::new("stages-latency", "Push latency by offered rate", "Queues grow before throughput ends.");
    vec![stages::achieved(&summary.stages, achieved), stages::latency(&summary.stages, latency)]
}

/// From when the first notification was due.
fn warm_up(summary: &Summary) -> Option<(f64, f64)> {
    let (from, seconds) = (summary.run.offered_from_seconds, summary.run.warm_up_seconds);
    (seconds > 0.0).then_some((from, from + seconds))
}

fn values(clock: &Clock<'_>, value: impl Fn(&Interval) -> Option<f64>) -> Vec<Option<f64>> {
    clock.intervals.iter().map(value).collect()
}
