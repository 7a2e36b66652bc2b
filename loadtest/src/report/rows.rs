//! The tables that the page and the terminal share: what each row is called, and its number in words.

use crate::report::{number, wording};
use crate::summary::{Deliveries, Latency, SERIES, Sockets, Stage, Summary, Usage};

/// A number with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// What was counted.
    pub(crate) name: String,
    /// How many.
    pub(crate) value: String,
    /// Of what it is a part, or what it means.
    pub(crate) remark: String,
    /// Whether it should not be.
    pub(crate) bad: bool,
}

impl Row {
    fn new(name: &str, value: impl Into<String>, remark: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), remark: remark.into(), bad: false }
    }

    fn bad_if(self, bad: bool) -> Self {
        Self { bad, ..self }
    }
}

/// What was sent.
pub(crate) fn sent(deliveries: &Deliveries) -> Vec<Row> {
    let Deliveries {
        offered,
        sent,
        accepted,
        refused,
        unknown,
        retried,
        failed_attempts,
        longest_outage,
        ..
    } = *deliveries;
    let count = number::count;
    let outage = if sent == 0 { number::NOT_MEASURED.to_owned() } else { number::micros(longest_outage) };
    vec![
        Row::new("offered", count(offered), "notifications that were due"),
        Row::new("sent", count(sent), of(sent, offered, "offered")),
        Row::new("accepted", count(accepted), of(accepted, sent, "sent")),
        Row::new("refused", count(refused), "for good: nothing was delivered").bad_if(refused > 0),
        Row::new("unknown", count(unknown), "no answer that tells").bad_if(unknown > 0),
        Row::new("retried", count(retried), "repeated with the same key"),
        Row::new("failed attempts", count(failed_attempts), "not accepted, each repetition counted"),
        Row::new("longest outage", outage, "sends under way, none accepted"),
    ]
}

/// What was received.
pub(crate) fn received(deliveries: &Deliveries) -> Vec<Row> {
    let Deliveries { expected, received, lost, announced, duplicates, out_of_order, unexpected, .. } =
        *deliveries;
    let count = number::count;
    vec![
        Row::new("expected", count(expected), "receptions that the target owes"),
        Row::new("received", count(received), of(received, expected, "expected")),
        Row::new("lost", count(lost), of(lost, expected, "expected")).bad_if(lost > announced),
        Row::new("announced", count(announced), "of the lost, by a gap"),
        Row::new("duplicates", count(duplicates), "received before").bad_if(duplicates > 0),
        Row::new("out of order", count(out_of_order), "behind one sent later").bad_if(out_of_order > 0),
        Row::new("unexpected", count(unexpected), "refused, unsent or misdirected").bad_if(unexpected > 0),
    ]
}

fn of(part: u64, whole: u64, what: &str) -> String {
    if whole == 0 {
        format!("of the {what}")
    } else {
        format!("{} of the {what}", number::percent(part, whole))
    }
}

/// The gaps, by reason.
pub(crate) fn gaps(deliveries: &Deliveries) -> Vec<Row> {
    let words = |gaps: u64, missing: u64| {
        let noun = if gaps == 1 { "gap" } else { "gaps" };
        (format!("{} {noun}", number::count(gaps)), format!("{} missing", number::count(missing)))
    };
    let gaps = deliveries.gaps.iter().map(|(reason, gaps)| {
        let (value, remark) = words(gaps.gaps, gaps.missing);
        Row::new(reason, value, remark)
    });
    gaps.collect()
}

/// The sockets.
pub(crate) fn sockets(sockets: &Sockets) -> Vec<Row> {
    let count = number::count;
    let all = sockets.all_after_seconds.map_or_else(|| number::NOT_MEASURED.to_owned(), number::seconds);
    vec![
        Row::new("asked for", count(sockets.asked), ""),
        Row::new("connected", count(sockets.connected), "at the first attempt"),
        Row::new("failed", count(sockets.failed), "first attempts").bad_if(sockets.failed > 0),
        Row::new("all connected after", all, "first connect to last welcome"),
        Row::new("reconnected", count(sockets.reconnected), "connects after the first"),
        Row::new("reconnects failed", count(sockets.reconnects_failed), "")
            .bad_if(sockets.reconnects_failed > 0),
        Row::new("connected at the end", count(sockets.at_end), ""),
        Row::new("drain frames", count(sockets.drains), ""),
    ]
}

/// Closes nobody asked for, by code.
pub(crate) fn closes(sockets: &Sockets) -> Vec<Row> {
    let row = |(code, closes): (&u16, &u64)| {
        Row::new(&code.to_string(), number::count(*closes), wording::close_code(*code))
    };
    sockets.closes.iter().map(row).collect()
}

/// Which process a usage is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// The target.
    Gateway,
    /// The load test.
    Generator,
}

/// What a process used; `None`: not measured.
pub(crate) fn usage(summary: &Summary, process: Process) -> Option<Vec<Row>> {
    let (usage, per_socket, per_push): (&Usage, _, _) = match process {
        Process::Gateway => (summary.gateway.as_ref()?, "rss_per_socket", "gateway_cpu_per_push"),
        Process::Generator => (&summary.generator, "generator_rss_per_socket", "generator_cpu_per_push"),
    };
    let value = |name: &str, write: fn(f64) -> String| {
        summary.values.get(name).map_or_else(|| number::NOT_MEASURED.to_owned(), |value| write(*value))
    };
    let memory =
        |bytes: u64| if bytes == 0 { number::NOT_MEASURED.to_owned() } else { number::bytes(bytes as f64) };
    Some(vec![
        Row::new("memory before", memory(usage.rss_before), "before the first socket"),
        Row::new("memory connected", memory(usage.rss_connected), "before the first send"),
        Row::new("memory at most", memory(usage.rss_max), "the largest resident memory"),
        Row::new("memory per socket", value(per_socket, number::bytes), "grown by while connecting"),
        Row::new("processor time", number::seconds(usage.cpu_seconds), "while notifications were due"),
        Row::new("processor time per push", value(per_push, number::fractional_micros), "by receptions"),
    ])
}

/// A step of a growing rate: offered, accepted, and p50, p90, p99 and largest of its push latency.
pub(crate) fn step(stage: &Stage) -> [String; 6] {
    let [offered, achieved] = [stage.rate, stage.achieved].map(number::rate);
    let push = stage.push;
    let [p50, p90, p99, max] = [push.p50, push.p90, push.p99, push.max].map(number::micros);
    [offered, achieved, p50, p90, p99, max]
}

/// A distribution as the tables show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distribution<'a> {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) explanation: &'static str,
    /// What was measured; absent: nothing.
    pub(crate) latency: Option<&'a Latency>,
}

impl Distribution<'_> {
    /// Samples, mean, least, p50, p90, p99, p99.9, p99.99 and largest in words.
    pub(crate) fn cells(&self) -> Option<[String; 9]> {
        let latency = self.latency?;
        let Latency { min, p50, p90, p99, p999, p9999, max, .. } = *latency;
        let [min, p50, p90, p99, p999, p9999, max] =
            [min, p50, p90, p99, p999, p9999, max].map(number::micros);
        let (count, mean) = (number::count(latency.count), number::fractional_micros(latency.mean));
        Some([count, mean, min, p50, p90, p99, p999, p9999, max])
    }
}

/// Every distribution that there may be.
pub(crate) fn distributions(summary: &Summary) -> Vec<Distribution<'_>> {
    let distribution = |(name, explanation): (&'static str, &'static str)| Distribution {
        name,
        explanation,
        latency: measured(summary, name),
    };
    SERIES.into_iter().map(distribution).collect()
}

/// A distribution of which there is at least one sample.
pub(crate) fn measured<'a>(summary: &'a Summary, name: &str) -> Option<&'a Latency> {
    summary.latencies.get(name).filter(|latency| latency.count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn what_should_not_be_is_marked() {
        let bad = |summary: &Summary| -> Vec<String> {
            let rows = [sent(&summary.deliveries), received(&summary.deliveries), sockets(&summary.sockets)]
                .concat();
            rows.into_iter().filter(|row| row.bad).map(|row| row.name).collect()
        };
        assert_eq!(bad(&fixture::failed(3)), ["unknown", "lost", "duplicates", "reconnects failed"]);
        assert!(bad(&fixture::passed(3)).is_empty());
    }

    #[test]
    fn a_loss_that_was_announced_is_not_marked() {
        let deliveries =
            Deliveries { expected: 10, received: 8, lost: 2, announced: 2, ..Deliveries::default() };
        assert!(received(&deliveries).iter().all(|row| !row.bad));
    }

    #[test]
    fn a_process_that_nobody_looked_at_has_no_rows() {
        assert_eq!(usage(&fixture::skipped(), Process::Gateway), None);
        let rows = usage(&fixture::passed(3), Process::Gateway).unwrap();
        assert_eq!(rows[3].value, "5.1 KiB");
        assert_eq!(rows[5].value, "18.3 µs");
    }
}
