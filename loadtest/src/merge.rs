//! One summary out of several processes' parts of the same run.
//!
//! Histograms are added, counts summed; gates are judged anew. Percentiles over time come from the heat map's cells, so they
//! are as coarse as these. Every process measures pushes of its own sends at its own sockets, so no clocks are compared.

use std::collections::BTreeMap;

use crate::collector::Distribution;
use crate::gate::Gate;
use crate::judge::{judge_gates, verdict};
use crate::summary::{Deliveries, FORMAT, Interval, IntervalLatency, Latency, Summary, Usage, Verdict};

/// Merges the parts of a run.
///
/// # Errors
/// When there is none, they are not the parts of one run, each once and all of them, or one does not parse; in words.
pub fn merge(parts: &[Summary]) -> Result<Summary, String> {
    let (first, rest) = parts.split_first().ok_or("there is nothing to merge")?;
    check_that_all_are_there(parts)?;
    for part in parts {
        if part.format != FORMAT {
            return Err(format!("a part is of format {}, this tool reads {FORMAT}", part.format));
        }
        if part.run.url != first.run.url {
            return Err(format!("{} and {} are not the same target", first.run.url, part.run.url));
        }
        if (&part.run.id, &part.run.scenario) != (&first.run.id, &first.run.scenario) {
            return Err(format!(
                "{} {} and {} {} are not the same run",
                first.run.scenario, first.run.id, part.run.scenario, part.run.id
            ));
        }
    }
    let mut whole = first.clone();
    whole.latencies = latencies(parts)?;
    for part in rest {
        whole.run.sockets += part.run.sockets;
        whole.run.rate += part.run.rate;
        add_deliveries(&mut whole.deliveries, &part.deliveries);
        add_sockets(&mut whole, part);
        add_timeline(&mut whole.timeline, &part.timeline);
        whole.marks.extend(part.marks.iter().cloned());
        whole.notes.extend(part.notes.iter().cloned());
        add_errors(&mut whole.errors, &part.errors);
        whole.interrupted |= part.interrupted;
        whole.gateway = seen_by_all(whole.gateway.take(), part.gateway.as_ref());
        whole.generator = add_usage(&whole.generator, &part.generator);
    }
    whole.run.shard = None;
    whole.marks.sort_by(|one, other| one.at.total_cmp(&other.at));
    whole.notes.push(format!("Merged from {} processes.", parts.len()));
    whole.values = values(parts, &whole);
    let gates = |default: bool| -> Result<Vec<Gate>, String> {
        first.gates.iter().filter(|gate| gate.default == default).map(|gate| gate.text.parse()).collect()
    };
    whole.gates = judge_gates(&gates(true)?, &gates(false)?, &whole.values, first.baseline.as_ref());
    if parts.iter().any(|part| part.verdict == Verdict::Skipped) {
        whole.verdict = Verdict::Skipped;
        return Ok(whole);
    }
    whole.verdict = verdict(&whole.gates, whole.interrupted);
    Ok(whole)
}

/// Each part once, and none is missing.
fn check_that_all_are_there(parts: &[Summary]) -> Result<(), String> {
    let of = parts.iter().find_map(|part| part.run.shard).map_or(1, |(_, of)| of);
    let mut numbers: Vec<(usize, usize)> =
        parts.iter().map(|part| part.run.shard.unwrap_or((1, 1))).collect();
    numbers.sort_unstable();
    let expected: Vec<(usize, usize)> = (1..=of).map(|number| (number, of)).collect();
    if numbers == expected {
        return Ok(());
    }
    let words: Vec<String> = numbers.iter().map(|(number, of)| format!("{number}/{of}")).collect();
    Err(format!("these are the parts {}: each of {of} has to be there once", words.join(", ")))
}

fn latencies(parts: &[Summary]) -> Result<BTreeMap<String, Latency>, String> {
    let mut merged: BTreeMap<String, Distribution> = BTreeMap::new();
    for part in parts {
        for (name, latency) in &part.latencies {
            merged.entry(name.clone()).or_default().add(&Distribution::from_latency(latency)?);
        }
    }
    Ok(merged.into_iter().map(|(name, distribution)| (name, distribution.to_latency())).collect())
}

/// Shares and percentiles anew; of the rest, sums of counts and the largest of everything else.
fn values(parts: &[Summary], whole: &Summary) -> BTreeMap<String, f64> {
    const SUMMED: [&str; 15] = [
        "lost",
        "lost_by_healthy",
        "goodbyes_missed",
        "target_failures",
        "unannounced",
        "duplicates",
        "order_violations",
        "unexpected",
        "offered",
        "refused",
        "unknown",
        "failed_attempts",
        "connects_failed",
        "missing_sockets",
        "unexpected_closes",
    ];
    let mut values: BTreeMap<String, f64> = BTreeMap::new();
    for (name, value) in parts.iter().flat_map(|part| &part.values) {
        let entry = values.entry(name.clone()).or_insert(f64::MIN);
        *entry =
            if SUMMED.contains(&&**name) && *entry > f64::MIN { *entry + value } else { entry.max(*value) };
    }
    for (name, latency) in whole.latencies.iter().filter(|(_, latency)| latency.count > 0) {
        for (statistic, value) in latency.statistics() {
            values.insert(format!("{name}_{statistic}"), value);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
    let float = |count: u64| count as f64;
    values.insert("samples".to_owned(), float(whole.latencies.get("push").map_or(0, |push| push.count)));
    let Deliveries { accepted, offered, received, .. } = whole.deliveries;
    values.insert("achieved".to_owned(), float(accepted) / float(offered.max(1)));
    // The generators run beside one another on the same cores.
    let together = |name: &str| parts.iter().filter_map(|part| part.values.get(name)).sum::<f64>();
    values.insert("generator_cpu".to_owned(), together("generator_cpu"));
    if let Some(gateway) = &whole.gateway {
        values.insert("gateway_cpu_per_push".to_owned(), gateway.cpu_seconds * 1e6 / float(received.max(1)));
        let grown = float(gateway.rss_connected) - float(gateway.rss_before);
        values.insert("rss_per_socket".to_owned(), grown / float(whole.sockets.connected.max(1)));
    }
    values
}

fn add_deliveries(whole: &mut Deliveries, part: &Deliveries) {
    let Deliveries {
        offered,
        sent,
        accepted,
        refused,
        unknown,
        retried,
        failed_attempts,
        longest_outage,
        expected,
        received,
        lost,
        announced,
        duplicates,
        out_of_order,
        unexpected,
        gaps,
        findings,
    } = part;
    for (sum, more) in [
        (&mut whole.offered, offered),
        (&mut whole.sent, sent),
        (&mut whole.accepted, accepted),
        (&mut whole.refused, refused),
        (&mut whole.unknown, unknown),
        (&mut whole.retried, retried),
        (&mut whole.failed_attempts, failed_attempts),
        (&mut whole.expected, expected),
        (&mut whole.received, received),
        (&mut whole.lost, lost),
        (&mut whole.announced, announced),
        (&mut whole.duplicates, duplicates),
        (&mut whole.out_of_order, out_of_order),
        (&mut whole.unexpected, unexpected),
    ] {
        *sum += more;
    }
    whole.longest_outage = whole.longest_outage.max(*longest_outage);
    for (reason, gap) in gaps {
        let sum = whole.gaps.entry(reason.clone()).or_default();
        sum.gaps += gap.gaps;
        sum.missing += gap.missing;
    }
    whole.findings.extend(findings.iter().cloned());
}

fn add_sockets(whole: &mut Summary, part: &Summary) {
    let (sum, more) = (&mut whole.sockets, &part.sockets);
    sum.asked += more.asked;
    sum.connected += more.connected;
    sum.failed += more.failed;
    sum.all_after_seconds =
        sum.all_after_seconds.zip(more.all_after_seconds).map(|(one, other)| one.max(other));
    sum.reconnected += more.reconnected;
    sum.reconnects_failed += more.reconnects_failed;
    sum.at_end += more.at_end;
    sum.drains += more.drains;
    for (code, count) in &more.closes {
        *sum.closes.entry(*code).or_default() += count;
    }
}

fn add_errors(whole: &mut Vec<(String, u64)>, part: &[(String, u64)]) {
    for (what, count) in part {
        match whole.iter_mut().find(|(known, _)| known == what) {
            Some((_, sum)) => *sum += count,
            None => whole.push((what.clone(), *count)),
        }
    }
    whole.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
}

/// The target is one process that every part has looked at, at about the same times.
fn seen_by_all(one: Option<Usage>, other: Option<&Usage>) -> Option<Usage> {
    let (Some(one), Some(other)) = (&one, other) else { return one.or_else(|| other.cloned()) };
    Some(Usage {
        source: one.source.clone(),
        rss_before: one.rss_before.min(other.rss_before),
        rss_connected: one.rss_connected.max(other.rss_connected),
        rss_max: one.rss_max.max(other.rss_max),
        cpu_seconds: one.cpu_seconds.max(other.cpu_seconds),
    })
}

fn add_usage(one: &Usage, other: &Usage) -> Usage {
    Usage {
        source: one.source.clone(),
        rss_before: one.rss_before + other.rss_before,
        rss_connected: one.rss_connected + other.rss_connected,
        rss_max: one.rss_max + other.rss_max,
        cpu_seconds: one.cpu_seconds + other.cpu_seconds,
    }
}

fn add_timeline(whole: &mut Vec<Interval>, part: &[Interval]) {
    let both = whole.len().min(part.len());
    whole.extend_from_slice(&part[both..]);
    for (sum, more) in whole.iter_mut().zip(part).take(both) {
        sum.offered += more.offered;
        sum.accepted += more.accepted;
        sum.failed += more.failed;
        sum.received += more.received;
        sum.sockets += more.sockets;
        sum.lateness_p99 = sum.lateness_p99.max(more.lateness_p99);
        sum.generator_rss = sum.generator_rss.zip(more.generator_rss).map(|(one, other)| one + other);
        sum.generator_cpu = sum.generator_cpu.zip(more.generator_cpu).map(|(one, other)| one + other);
        let mut cells: BTreeMap<u64, u64> = sum.heat.iter().copied().collect();
        for (bound, count) in &more.heat {
            *cells.entry(*bound).or_default() += count;
        }
        sum.heat = cells.into_iter().collect();
        sum.push = of_cells(&sum.heat);
    }
}

/// Percentiles of a heat map's column: the bounds of the cells they lie in.
fn of_cells(cells: &[(u64, u64)]) -> Option<IntervalLatency> {
    let all: u64 = cells.iter().map(|(_, count)| count).sum();
    let (max, _) = *cells.last()?;
    let at = |per_thousand: u64| {
        let mut below = 0;
        let reaches = |(_, count): &&(u64, u64)| {
            below += count;
            below * 1_000 >= all * per_thousand
        };
        cells.iter().find(reaches).map_or(max, |(bound, _)| *bound)
    };
    Some(IntervalLatency { p50: at(500), p90: at(900), p99: at(990), max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn parts() -> [Summary; 2] {
        [1, 2].map(|number| {
            let mut part = fixture::passed(3);
            part.run.shard = Some((number, 2));
            part
        })
    }

    #[test]
    fn counts_and_histograms_are_added() {
        let [one, mut other] = parts();
        let mut distribution = Distribution::default();
        distribution.note(77_000_000);
        other.latencies.insert("push".to_owned(), distribution.to_latency());
        let mut one = one;
        let mut distribution = Distribution::default();
        distribution.note(5);
        one.latencies.insert("push".to_owned(), distribution.to_latency());
        for latencies in [&mut one.latencies, &mut other.latencies] {
            latencies.retain(|name, _| name == "push");
        }
        let whole = merge(&[one.clone(), other.clone()]).unwrap();
        assert_eq!(whole.latencies["push"].count, 2);
        assert!(whole.values["push_max"] >= 77_000_000.0);
        assert_eq!(whole.deliveries.sent, one.deliveries.sent + other.deliveries.sent);
        assert_eq!(whole.sockets.connected, one.sockets.connected + other.sockets.connected);
        assert_eq!(whole.run.shard, None);
    }

    #[test]
    fn every_part_has_to_be_there_once() {
        let [mut one, mut other] = parts();
        one.latencies.clear();
        other.latencies.clear();
        for wrong in [vec![one.clone()], vec![one.clone(), one.clone()], vec![one, other.clone(), other]] {
            let why = merge(&wrong).unwrap_err();
            assert!(why.contains("each of 2 has to be there once"), "{why}");
        }
        assert!(merge(&[]).is_err());
    }

    #[test]
    fn a_skipped_or_interrupted_part_makes_no_pass() {
        for (spoil, expected) in [
            ((|part| part.verdict = Verdict::Skipped) as fn(&mut Summary), Verdict::Skipped),
            (|part| part.interrupted = true, Verdict::Invalid),
        ] {
            let mut parts = parts();
            for part in &mut parts {
                part.latencies.clear();
                part.gates.clear();
            }
            spoil(&mut parts[1]);
            assert_eq!(merge(&parts).unwrap().verdict, expected);
        }
    }
}
