//! One attack: a gateway of its own, bystanders before, during and after, and the verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::bystanders::{Arrival, Bystanders, Seen};
use crate::process::{Process, own_processor_time};
use crate::target::{Credentials, Target};
use crate::wire::Tally;
use crate::{Attack, Blow, spinner};

/// Pairs of a sender and a receiver, and how often each sends in a second.
const PAIRS: u8 = 4;
const RATE: u32 = 50;

/// How long it is calm before the attack.
const CALM: Duration = Duration::from_secs(5);

/// How long all processors are busy before the attack, with what has nothing to do with the gateway.
const BUSY: Duration = Duration::from_secs(3);

/// How long everything may take to be empty again.
const SETTLING: Duration = Duration::from_secs(40);

/// A calm p99 below this counts as this: five times next to nothing would be a bound on the machine.
const FLOOR: Duration = Duration::from_millis(2);

/// How much worse than calm p99 may be under attack.
const MOST_DEGRADATION: u32 = 5;

/// What is left of the memory afterwards may be so much more than at the start: the allocator gives back late.
const MOST_LEFT: u64 = 64 << 20;

const MIB: f64 = (1 << 20) as f64;

/// What has to be empty afterwards.
const TABLES: [&str; 12] = [
    "gateway_connections",
    "gateway_sessions{transport=\"websocket\"}",
    "gateway_sessions{transport=\"sse\"}",
    "http_server_active_requests",
    "gateway_users",
    "gateway_known_users",
    "gateway_mailbox_depth",
    "gateway_mailbox_bytes",
    "gateway_remembered{kind=\"idempotency_keys\"}",
    "gateway_remembered{kind=\"outcomes\"}",
    "gateway_remembered{kind=\"addresses\"}",
    "gateway_remembered{kind=\"senders\"}",
];

/// What is counted as refused.
const REFUSALS: [&str; 5] = [
    "gateway_limited_total",
    "gateway_auth_refused_total",
    "gateway_accept_errors_total",
    "gateway_sessions_closed_total",
    "gateway_credential_reloads_total",
];

/// What came of an attack.
pub(crate) struct Outcome {
    pub(crate) row: String,
    pub(crate) details: Vec<String>,
    /// The bounds that were missed.
    pub(crate) missed: Vec<String>,
}

/// Latencies of one part of the time.
struct Latencies {
    p50: Duration,
    p99: Duration,
    /// The longest time without a notification.
    gap: Duration,
}

/// Carries out one attack.
pub(crate) async fn fight(attack: &Attack) -> Outcome {
    let folder = tempfile::tempdir().expect("a directory for keys");
    let mut variables: Vec<(&str, String)> = [
        ("GATEWAY_IDEMPOTENCY_WINDOW", "3s"),
        ("GATEWAY_OUTCOMES_RETENTION", "1s"),
        ("GATEWAY_NOTIFICATION_DEFAULT_TTL", "1s"),
        ("GATEWAY_FRAMES_CACHE", "16MiB"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    let credentials = attack.secured.then(|| {
        let (credentials, settings) = Credentials::write(folder.path());
        variables.extend(settings);
        credentials
    });
    variables.extend(attack.settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let process = Process::start(&variables, attack.open_files);
    let target = Target { http: process.http, credentials };
    let bystanders = Bystanders::start(&target, PAIRS, RATE);
    let start_bytes = process.resident_bytes();
    let calm_from = Instant::now();
    tokio::time::sleep(CALM).await;
    let busy_from = Instant::now();
    spinner::spin(2, (busy_from + BUSY).into()).await;

    let (gateway_before, generator_before) = (process.processor_time(), own_processor_time());
    let attacked_from = Instant::now();
    let until = attacked_from + attack.lasting;
    let blow: Blow = (attack.blow)(target, attack.size, until.into());
    tokio::pin!(blow);
    let mut most_files = 0;
    let mut looking = tokio::time::interval(Duration::from_millis(100));
    let met = loop {
        tokio::select! {
            met = &mut blow => break met,
            _ = looking.tick() => most_files = most_files.max(process.open_files()),
        }
    };
    let attacked_until = Instant::now();
    let gateway_used = process.processor_time() - gateway_before;
    let generator_used = own_processor_time() - generator_before;

    let finishing = tokio::task::spawn_blocking(|| bystanders.finish());
    let seen = finishing.await.expect("bystanders do not panic");
    let calm = latencies(&seen, calm_from, busy_from);
    let busy = latencies(&seen, busy_from, attacked_from);
    let during = latencies(&seen, attacked_from, attacked_until);
    let left = settle(&process).await;
    let metrics = scrape(&process).await;
    let highest_bytes = process.highest_resident_bytes();
    // Freed pages go back a little later.
    let end_bytes = least_resident_bytes(&process, start_bytes).await;

    let mut missed = left;
    let mut details = vec![format!("met: {}", listed(&met)), format!("counted: {}", refusals(&metrics))];
    check(&mut missed, &seen);
    let bound = calm.p99.max(FLOOR) * MOST_DEGRADATION;
    if during.p99 > bound {
        let factor = during.p99.as_secs_f64() / calm.p99.max(FLOOR).as_secs_f64();
        let said = format!("p99 is {factor:.1} times calm");
        // Plain lack of processor time is not held against the gateway.
        let is_excused = during.p99 <= busy.p99 * MOST_DEGRADATION;
        if is_excused { details.push(format!("{said}, within five times busy")) } else { missed.push(said) }
    }
    let growth = highest_bytes.saturating_sub(start_bytes);
    if growth > attack.most_growth {
        missed.push(format!("memory grew by {:.0} MiB", growth as f64 / MIB));
    }
    if end_bytes > start_bytes + MOST_LEFT {
        missed.push(format!("{:.0} MiB stayed", (end_bytes - start_bytes) as f64 / MIB));
    }
    let metric = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
    if metric("gateway_panics_total") + metric("gateway_ledger_imbalance").abs() > 0.0 {
        missed.push("a panic, or an imbalance".to_owned());
    }
    let row = format!(
        "{:<23} {:>6} {:<7} | {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} | {:>6.0} {:>4} {:>5} | {:>5.1} {:>5.1} {:>5.1} | {:>4.0} {:>4.0} {:>4.0} {:>6}",
        attack.name,
        attack.size,
        if attack.secured { "secured" } else { "open" },
        milliseconds(calm.p50),
        milliseconds(calm.p99),
        milliseconds(busy.p99),
        milliseconds(during.p50),
        milliseconds(during.p99),
        milliseconds(during.gap),
        seen.lost,
        seen.not_accepted.values().sum::<usize>(),
        attacked_until.duration_since(attacked_from).as_secs_f64(),
        gateway_used.as_secs_f64(),
        generator_used.as_secs_f64(),
        start_bytes as f64 / MIB,
        highest_bytes as f64 / MIB,
        end_bytes as f64 / MIB,
        most_files,
    );
    Outcome { row, details, missed }
}

fn check(missed: &mut Vec<String>, seen: &Seen) {
    if seen.lost + seen.twice > 0 || !seen.broken.is_empty() {
        missed.push(format!("{} lost, {} twice, broken: {:?}", seen.lost, seen.twice, seen.broken));
    }
    if !seen.not_accepted.is_empty() {
        missed.push(format!("not accepted: {}", listed(&seen.not_accepted)));
    }
}

fn latencies(seen: &Seen, from: Instant, until: Instant) -> Latencies {
    let within = |arrival: &&Arrival| (from..until).contains(&arrival.due.into_std());
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("three digits");
    let mut arrived = Vec::new();
    for arrival in seen.arrivals.iter().filter(within) {
        histogram.saturating_record(u64::try_from(arrival.latency.as_micros()).expect("a short time"));
        arrived.push(arrival.due + arrival.latency);
    }
    arrived.sort_unstable();
    let gap = arrived.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Latencies { p50: at(0.5), p99: at(0.99), gap }
}

/// Waits until every table is empty; returns those that stay filled.
async fn settle(process: &Process) -> Vec<String> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let metrics = scrape(process).await;
        let filled = TABLES.iter().filter(|name| metrics.get(**name) != Some(&0.0));
        let filled: Vec<String> =
            filled.map(|name| format!("{name} is {:?} afterwards", metrics.get(*name))).collect();
        if filled.is_empty() || Instant::now() > deadline {
            return filled;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn least_resident_bytes(process: &Process, start_bytes: u64) -> u64 {
    let mut least = process.resident_bytes();
    for _ in 0..20 {
        if least <= start_bytes + MOST_LEFT / 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        least = least.min(process.resident_bytes());
    }
    least
}

async fn scrape(process: &Process) -> BTreeMap<String, f64> {
    let response = reqwest::get(format!("http://{}/metrics", process.ops)).await.expect("it answers");
    let text = response.text().await.expect("with text");
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    series.collect()
}

fn refusals(metrics: &BTreeMap<String, f64>) -> String {
    let counted = metrics
        .iter()
        .filter(|(name, value)| **value > 0.0 && REFUSALS.iter().any(|refusal| name.starts_with(refusal)));
    let named = counted.map(|(name, value)| {
        let name = name.trim_start_matches("gateway_").replace("_total", "");
        format!("{name} {value}")
    });
    named.collect::<Vec<_>>().join(", ")
}

fn listed(tally: &Tally) -> String {
    tally.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
