//! What a process uses: resident memory and processor time, of this process, of another one on this machine, or of a
//! target that is only known by its operators' address.
//!
//! Two readings make a rate; nothing is remembered here. On this machine the kernel is asked: memory is exact to some pages,
//! processor time to a hundredth of a second. Elsewhere the target's `/metrics` is: there processor time has **whole
//! seconds** (its collector counts so), which says nothing about less than some ten seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use procfs::WithCurrentSystemInfo;
use procfs::process::Process;

/// A scrape that takes longer is none.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Metrics that every exporter with a process collector has.
const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// What a process uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Resident memory, bytes.
    pub rss: u64,
    /// Processor time of all threads since the process began, in user space and in the kernel, seconds.
    pub cpu_seconds: f64,
}

/// Whose usage is read, and from where.
#[derive(Debug, Clone)]
pub enum Source {
    /// This process.
    Own,
    /// Another process of this machine, by its id.
    Process(i32),
    /// The process behind this operators' address (`http://host:port`, without a path).
    Ops {
        /// Asks for it.
        client: reqwest::Client,
        /// The address.
        url: String,
    },
}

impl Source {
    /// Reads once. `None`: the process is gone, its address does not answer within 5 s, or does not say.
    pub async fn read(&self) -> Option<Reading> {
        match self {
            Self::Own => of_process(&Process::myself().ok()?),
            Self::Process(id) => of_process(&Process::new(*id).ok()?),
            Self::Ops { client, url } => {
                let values = scrape(client, url, &[RESIDENT_BYTES, CPU_SECONDS]).await?;
                let rss = *values.get(RESIDENT_BYTES)?;
                Some(Reading { rss: rss as u64, cpu_seconds: *values.get(CPU_SECONDS)? })
            }
        }
    }

    /// Where the numbers come from, in words for a report.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Own => "the kernel, for this process".to_owned(),
            Self::Process(id) => format!("the kernel, for process {id}"),
            Self::Ops { url, .. } => format!("{url}/metrics (processor time in whole seconds)"),
        }
    }
}

/// Reads `<ops_url>/metrics` and adds up the samples of each of these names, over all labels.
///
/// A name without samples is left out. A part of a histogram is asked for as it is written (`…_count`). `None`: the address
/// does not answer with success within 5 s.
pub async fn scrape(
    client: &reqwest::Client,
    ops_url: &str,
    names: &[&str],
) -> Option<BTreeMap<String, f64>> {
    Some(sums(&exposition(client, ops_url).await?, names))
}

/// The buckets of a histogram without other labels: upper bounds, ascending, and how many lie at or below each.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Reads `<ops_url>/metrics`. `None`: no answer within 5 s, or no such histogram.
    pub async fn scrape(client: &reqwest::Client, ops_url: &str, family: &str) -> Option<Self> {
        Self::parse(&exposition(client, ops_url).await?, family)
    }

    fn parse(exposition: &str, family: &str) -> Option<Self> {
        let bucket = |line: &str| {
            let rest = line.strip_prefix(family)?.strip_prefix("_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"}")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.trim().parse().ok()?))
        };
        let buckets: Vec<(f64, f64)> = exposition.lines().filter_map(bucket).collect();
        (!buckets.is_empty()).then_some(Self(buckets))
    }

    /// The bound that this share (0 to 1) of what came since `before` does not exceed. `None`: nothing came, it lies beyond
    /// the last bound, or these are the buckets of two processes.
    #[must_use]
    pub fn since(&self, before: &Self, share: f64) -> Option<f64> {
        let pairs = self.0.iter().zip(&before.0);
        let came: Vec<(f64, f64)> = pairs.map(|(now, then)| (now.0, now.1 - then.1)).collect();
        let all = came.last().filter(|(_, all)| *all > 0.0)?.1;
        came.iter()
            .find(|(_, below)| *below >= all * share)
            .map(|(bound, _)| *bound)
            .filter(|bound| bound.is_finite())
    }
}

async fn exposition(client: &reqwest::Client, ops_url: &str) -> Option<String> {
    let url = format!("{}/metrics", ops_url.trim_end_matches('/'));
    let response = client.get(url).timeout(SCRAPE_TIMEOUT).send().await.ok()?.error_for_status().ok()?;
    response.text().await.ok()
}

fn of_process(process: &Process) -> Option<Reading> {
    // What has ended and was not collected yet still has a place in the kernel's table, and nothing else.
    let stat = process.stat().ok().filter(|stat| stat.state != 'Z')?;
    let ticks = (stat.utime + stat.stime) as f64;
    Some(Reading { rss: stat.rss_bytes().get(), cpu_seconds: ticks / procfs::ticks_per_second() as f64 })
}

/// Adds up samples of the text exposition format.
fn sums(exposition: &str, names: &[&str]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in exposition.lines() {
        if let Some((name, value)) = sample(line)
            && names.contains(&name)
        {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// The name and the value of a line; `None` for comments and what is no sample.
fn sample(line: &str) -> Option<(&str, f64)> {
    let name = line.split(['{', ' ']).next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    // A label's value may contain anything, what follows the labels is only a number and perhaps a time.
    let rest = line.rsplit_once('}').map_or(&line[name.len()..], |(_, rest)| rest);
    Some((name, rest.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_says_what_a_share_of_the_new_ones_did_not_exceed() {
        let buckets = |counts: [u32; 3]| {
            let [one, two, all] = counts;
            let text = format!(
                "log_seconds_bucket{{le=\"0.001\"}} {one}\nlog_seconds_bucket{{le=\"0.25\"}} {two}\n\
                 log_seconds_bucket{{le=\"+Inf\"}} {all}\nlog_seconds_count {all}\n"
            );
            Buckets::parse(&text, "log_seconds").unwrap()
        };
        let before = buckets([100, 100, 100]);
        assert_eq!(buckets([198, 200, 200]).since(&before, 0.98), Some(0.001));
        assert_eq!(buckets([198, 200, 200]).since(&before, 0.99), Some(0.25));
        assert_eq!(buckets([100, 100, 200]).since(&before, 0.5), None, "beyond the last bound");
        assert_eq!(before.since(&before, 0.5), None, "nothing came");
        assert_eq!(Buckets::parse("", "log_seconds"), None);
    }

    const EXPOSITION: &str = r#"
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 17
process_resident_memory_bytes 1.23456789e+08
gateway_ledger_imbalance -2
gateway_ledger_final_total{outcome="acked"} 40
gateway_ledger_final_total{outcome="expired"} 2 1395066363000
gateway_ledger_final_total_other 1000
odd{text="a } b \" 7 # c"} 3
not_a_number NaN
"#;

    #[test]
    fn samples_of_a_name_are_added_up_over_its_labels() {
        let names =
            [RESIDENT_BYTES, CPU_SECONDS, "gateway_ledger_imbalance", "gateway_ledger_final_total", "odd"];
        let sums = sums(EXPOSITION, &names);
        assert_eq!(sums[RESIDENT_BYTES], 123_456_789.0);
        assert_eq!(sums[CPU_SECONDS], 17.0);
        assert_eq!(sums["gateway_ledger_imbalance"], -2.0);
        assert_eq!(sums["gateway_ledger_final_total"], 42.0);
        assert_eq!(sums["odd"], 3.0);
    }

    #[test]
    fn what_is_not_there_is_left_out_and_not_zero() {
        assert_eq!(sums(EXPOSITION, &["absent", "gateway_ledger"]), BTreeMap::new());
        assert!(sums(EXPOSITION, &["not_a_number"])["not_a_number"].is_nan());
        assert_eq!(sums("<html>\n{} 7\n# x 7", &["<html>", "", "#"]), BTreeMap::new());
    }

    #[tokio::test]
    async fn the_kernel_tells_of_this_process_the_same_in_both_ways() {
        let before = Source::Own.read().await.unwrap();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Source::Process(i32::try_from(std::process::id()).unwrap()).read().await.unwrap();
        assert!(after.rss >= before.rss + (60 << 20), "{before:?} {after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds, "{before:?} {after:?}");
        drop(held);
    }

    #[tokio::test]
    async fn a_process_that_is_gone_and_an_address_that_is_silent_have_no_usage() {
        assert_eq!(Source::Process(i32::MAX).read().await, None);
        // Nothing listens on the port of a socket that was closed.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{address}");
        let ops = Source::Ops { client: reqwest::Client::builder().no_proxy().build().unwrap(), url };
        assert_eq!(ops.read().await, None);
    }
}
