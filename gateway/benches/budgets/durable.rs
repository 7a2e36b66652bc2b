//! What the log on disk costs, and what follows from it: durable sends, starting again, topics, acks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::measure::{BATCH, SEND, closed_loop, names, open, settle};
use crate::process::Process;
use crate::wire::{Poster, Receiver, metric};

/// A directory on the disk of the build, removed when dropped.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("log-{}", std::process::id()));
        // What an earlier run left would be measured too.
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// POSTs to a gateway on disk, closed loop, with so many in flight.
pub(crate) async fn durable() {
    for in_flight in [1, 64, 512] {
        let directory = Directory::new();
        let process = Process::start_on_disk(&directory.0);
        let body = |index: usize| {
            format!(
                r#"{{"to":["user-{}"],"from":"alice","title":"Hello","body":"Your parcel is at the door.","ttl_seconds":60}}"#,
                index % 1_000
            )
        };
        let before = process.processor_time();
        let started = Instant::now();
        let (requests, latency) =
            closed_loop(&process.http, SEND, &body, in_flight, Duration::from_secs(8)).await;
        let elapsed = started.elapsed().as_secs_f64();
        let used = process.processor_time() - before;
        println!(
            "durable, {in_flight} in flight: {:.0}/s; p50 {} us, p99 {} us, p99.9 {} us; {:.1} us user + {:.1} us system each",
            requests as f64 / elapsed,
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99),
            latency.value_at_quantile(0.999),
            used.user * 1e6 / requests as f64,
            used.system * 1e6 / requests as f64,
        );
    }
}

/// Sends a notification to each of so many users whose names begin so.
pub(crate) async fn fill(process: &Process, name: &str, users: usize) {
    let mut poster = Poster::connect(&process.http).await.expect("it accepts");
    for first in (0..users).step_by(1_000) {
        let items: Vec<String> = (first..first + 1_000)
            .map(|index| {
                format!(r#"{{"to":["{name}-{index}"],"from":"alice","title":"Hello","body":"Your parcel is at the door."}}"#)
            })
            .collect();
        poster.post(BATCH, &format!("[{}]", items.join(","))).await.expect("it takes it");
    }
}

/// A gateway that finds a million entries of a million users.
pub(crate) async fn start() {
    const USERS: usize = 1_000_000;
    let directory = Directory::new();
    let process = Process::start_on_disk(&directory.0);
    fill(&process, "user", USERS).await;
    let filled = process.resident_bytes();
    let bytes = metric(&process.ops, "gateway_log_bytes").await;
    // Killed: nothing is prepared for the next start.
    drop(process);
    let started = Instant::now();
    let process = Process::start_on_disk(&directory.0);
    let elapsed = started.elapsed().as_secs_f64();
    let used = process.processor_time();
    println!(
        "start with {USERS} entries of {USERS} users: {elapsed:.2} s until it greets ({:.0} entries/s; {:.2} s of processor), \
         RSS {} MB (before the kill {} MB), log {:.0} MB",
        USERS as f64 / elapsed,
        used.user + used.system,
        process.resident_bytes() / 1_000_000,
        filled / 1_000_000,
        bytes / 1e6,
    );
    assert_eq!(metric(&process.ops, "gateway_mailbox_depth").await, USERS as f64);
}

/// One send to a topic of 10,000 subscribers of whom 1,000 are connected, and the pushes of somebody else beside it.
pub(crate) async fn topic() {
    const SUBSCRIBERS: usize = 10_000;
    const ONLINE: usize = 1_000;
    const SENDS: usize = 50;
    let directory = Directory::new();
    let process = Process::start_on_disk(&directory.0);
    let mut poster = Poster::connect(&process.http).await.expect("it accepts");
    let everybody = format!("[{}]", names(SUBSCRIBERS));
    poster.put("/v1/topics/news/subscribers", &everybody).await.expect("they join");
    let entries = metric(&process.ops, "gateway_log_entries").await;
    let mut receivers = open(&process.http, ONLINE, 64).await;
    let mut last_frame = Histogram::<u64>::new(3).expect("three digits");
    let mut answered = Histogram::<u64>::new(3).expect("three digits");
    let micros = |since: Instant| u64::try_from(since.elapsed().as_micros()).expect("a short time");
    for _ in 0..SENDS {
        let sent = Instant::now();
        let reading: Vec<_> = receivers
            .into_iter()
            .map(|mut receiver| {
                tokio::spawn(async move {
                    receiver.text().await.expect("it arrives");
                    (micros(sent), receiver)
                })
            })
            .collect();
        poster.post(SEND, r#"{"topic":"news","body":"to all of you"}"#).await.expect("it takes it");
        answered.record(micros(sent)).expect("it grows as it must");
        receivers = Vec::with_capacity(ONLINE);
        let mut last = 0;
        for one in reading {
            let (arrived, receiver) = one.await.expect("it reads");
            last = last.max(arrived);
            receivers.push(receiver);
        }
        last_frame.record(last).expect("it grows as it must");
    }
    println!(
        "topic of {SUBSCRIBERS}, {ONLINE} online: 202 after p50 {} us, last frame p50 {} us, p99 {} us",
        answered.value_at_quantile(0.5),
        last_frame.value_at_quantile(0.5),
        last_frame.value_at_quantile(0.99),
    );
    drop(receivers);
    // The log's gauges are looked after once a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let grown = metric(&process.ops, "gateway_log_entries").await - entries;
    println!("topic: {:.2} log entries a send", grown / SENDS as f64);
    delay(&process, poster).await;
}

async fn delay(process: &Process, mut poster: Poster) {
    let mut sender = Poster::connect(&process.http).await.expect("it accepts");
    let mut receiver = Receiver::connect(&process.http, "somebody").await.expect("it accepts");
    for beside in [false, true] {
        let mut push = Histogram::<u64>::new(3).expect("three digits");
        for _ in 0..500 {
            let started = Instant::now();
            let unrelated = async {
                sender.post(SEND, r#"{"to":["somebody"],"body":"x"}"#).await.expect("it takes it");
                receiver.text().await.expect("it arrives");
                push.record(u64::try_from(started.elapsed().as_micros()).expect("a short time"))
                    .expect("it grows as it must");
            };
            let many = async {
                if beside {
                    poster.post(SEND, r#"{"topic":"news","body":"x"}"#).await.expect("it takes it");
                }
            };
            tokio::join!(many, unrelated);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        println!(
            "topic: an unrelated push {}: p50 {} us, p99 {} us, p99.9 {} us",
            if beside { "beside a send to 10,000 subscribers" } else { "alone" },
            push.value_at_quantile(0.5),
            push.value_at_quantile(0.99),
            push.value_at_quantile(0.999),
        );
    }
}

/// What acks cost the log: 1,000 sockets that answer pings, 1,000 notifications a second for five seconds.
pub(crate) async fn acked() {
    const SOCKETS: usize = 1_000;
    const COUNT: usize = 5_000;
    let directory = Directory::new();
    let process = Process::start_on_disk(&directory.0);
    let receivers = open(&process.http, SOCKETS, 64).await;
    for mut receiver in receivers {
        tokio::spawn(async move { while receiver.text().await.is_ok() {} });
    }
    let before =
        (metric(&process.ops, "gateway_log_entries").await, metric(&process.ops, "gateway_log_bytes").await);
    let mut poster = Poster::connect(&process.http).await.expect("it accepts");
    let mut period = tokio::time::interval(Duration::from_millis(1));
    for index in 0..COUNT {
        period.tick().await;
        let body = format!(
            r#"{{"to":["user-{}"],"from":"alice","title":"Hello","body":"Your parcel is at the door."}}"#,
            index % SOCKETS
        );
        poster.post(SEND, &body).await.expect("it takes it");
    }
    let acked = || metric(&process.ops, "gateway_ledger_final_total{outcome=\"acked\"}");
    settle(|| async { acked().await as usize == COUNT }).await;
    // The log's gauges are looked after once a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let entries = metric(&process.ops, "gateway_log_entries").await - before.0;
    let bytes = metric(&process.ops, "gateway_log_bytes").await - before.1;
    println!(
        "acked: {:.3} log entries and {:.0} bytes of log per acked notification ({COUNT} to {SOCKETS} sockets)",
        entries / COUNT as f64,
        bytes / COUNT as f64,
    );
}
