//! Runs side by side: an earlier one beside this one, or two targets in turns.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::metric::Metric;
use crate::report::number;
use crate::summary::{Summary, Verdict};

/// What is compared, when it was measured.
const COMPARED: [&str; 18] = [
    "push_p50",
    "push_p99",
    "push_p999",
    "push_max",
    "service_p50",
    "service_p99",
    "post_p50",
    "post_p99",
    "spread_p99",
    "connect_p99",
    "resume_p99",
    "achieved",
    "lost",
    "duplicates",
    "order_violations",
    "knee",
    "rss_per_socket",
    "gateway_cpu_per_push",
];

/// Runs of one target, by its name.
#[derive(Debug, Clone)]
pub struct Runs {
    /// What it is called in the table.
    pub name: String,
    /// Its runs.
    pub summaries: Vec<Summary>,
}

impl Runs {
    /// The median of a value over the runs that measured it; `None`: none did.
    fn median(&self, metric: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.summaries.iter().filter_map(|summary| summary.values.get(metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            count if count % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
            _ => Some(values[middle]),
        }
    }

    fn verdicts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for summary in &self.summaries {
            let word = match summary.verdict {
                Verdict::Passed => "passed",
                Verdict::TooSlow => "too slow",
                Verdict::DeliveryFailed => "delivery failed",
                Verdict::Invalid => "invalid",
                Verdict::Skipped => "skipped",
            };
            *counts.entry(word).or_default() += 1;
        }
        let said: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count}× {word}")).collect();
        said.join(", ")
    }
}

/// A table of medians, and of how much the others are of the first.
#[must_use]
pub fn table(runs: &[Runs]) -> String {
    let mut text = String::new();
    let mut row = |cells: &[String]| {
        let (first, rest) = cells.split_first().expect("a name");
        let _ = write!(text, "{first:<22}");
        for cell in rest {
            let _ = write!(text, " {cell:>20}");
        }
        text.push('\n');
    };
    let Some((base, others)) = runs.split_first() else { return String::new() };
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(|runs| runs.name.clone()));
    head.extend(others.iter().map(|other| format!("{}/{}", other.name, base.name)));
    row(&head);
    for name in COMPARED {
        let medians: Vec<Option<f64>> = runs.iter().map(|runs| runs.median(name)).collect();
        if medians.iter().all(Option::is_none) {
            continue;
        }
        let unit = Metric::find(name).expect("what is compared is measured").unit();
        let mut cells = vec![name.to_owned()];
        let word =
            |value: &Option<f64>| value.map_or_else(|| "not measured".to_owned(), |value| unit.write(value));
        cells.extend(medians.iter().map(word));
        cells.extend(medians[1..].iter().map(|value| ratio(*value, medians[0])));
        row(&cells);
    }
    let mut last = vec!["verdicts".to_owned()];
    last.extend(runs.iter().map(Runs::verdicts));
    row(&last);
    text
}

fn ratio(value: Option<f64>, base: Option<f64>) -> String {
    match (value, base) {
        (Some(value), Some(base)) if base > 0.0 => format!("{}×", number::significant(value / base)),
        _ => "–".to_owned(),
    }
}

/// Says where a baseline does not fit the run it is compared with; numbers are compared in any case.
#[must_use]
pub fn differences(baseline: &Summary, now: &Summary) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, then: String, now: String| {
        if then != now {
            differences.push(format!("the baseline had {what} {then}, this run {now}"));
        }
    };
    differ("scenario", baseline.run.scenario.clone(), now.run.scenario.clone());
    differ("sockets", baseline.run.sockets.to_string(), now.run.sockets.to_string());
    differ("a rate of", baseline.run.rate.to_string(), now.run.rate.to_string());
    differ("a size of", baseline.run.size.to_string(), now.run.size.to_string());
    differ("as kind of target", baseline.run.adapter.clone(), now.run.adapter.clone());
    differ("seconds", baseline.run.duration_seconds.to_string(), now.run.duration_seconds.to_string());
    differ("cores", baseline.run.cores.to_string(), now.run.cores.to_string());
    if baseline.verdict != Verdict::Passed {
        differences.push("the baseline did not pass".to_owned());
    }
    differences
}
