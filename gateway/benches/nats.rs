//! The log in NATS alone: appends on one server and on three, and how fast a node without a copy catches up.
//!
//! `cargo bench --bench nats`; it needs nats-server, and starts its own on this machine: servers, client and load share the
//! processors, so read ratios.

#![expect(clippy::print_stdout, reason = "a benchmark by hand prints what it measured")]

#[path = "../tests/black_box/nats_server.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests use more of it, and it fails as tests do")]
mod nats_server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway::clock::Clock;
use gateway::log::nats::{Connection, ConnectionOptions, StreamSettings};
use gateway::log::{Log, NatsLog, NatsOptions, NewEntry};
use hdrhistogram::Histogram;
use nats_server::NatsCluster;
use tokio::time::Instant;

const ENTRY_BYTES: usize = 250;
const FOLLOWED: u64 = 1_000_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().expect("there is room for files");
    for servers in [1, 3] {
        let cluster = NatsCluster::start(servers).await;
        for (callers, duration) in [(1, 5), (64, 8), (512, 12)] {
            let name = format!("bench-{callers}");
            let log =
                open(&cluster, servers, &name, &folder.path().join(format!("{servers}-{callers}"))).await;
            appends(Arc::new(log), servers, callers, Duration::from_secs(duration)).await;
        }
        if servers == 1 {
            catch_up(&cluster, folder.path()).await;
        }
    }
}

async fn open(cluster: &NatsCluster, replicas: usize, name: &str, copy: &Path) -> NatsLog {
    let options = ConnectionOptions {
        servers: cluster.urls(),
        timeout: Duration::from_secs(20),
        ..ConnectionOptions::default()
    };
    let connection =
        Connection::open(&options, Clock::system()).await.expect("the servers were just started");
    let options = NatsOptions {
        stream: StreamSettings {
            name: name.to_owned(),
            replicas,
            max_age: Duration::from_secs(86_400),
            least_age: None,
            max_bytes: 4 << 30,
        },
        copy_directory: copy.to_owned(),
        timeout: Duration::from_secs(20),
        new_epoch: false,
        random: || uuid::Uuid::new_v4().as_u64_pair().1,
    };
    NatsLog::open(connection, options, Clock::system()).await.expect("the stream is new")
}

fn entry() -> NewEntry {
    NewEntry::ordinary(Bytes::from(vec![b'x'; ENTRY_BYTES]))
}

/// So many callers that append one entry each, again and again.
async fn appends(log: Arc<NatsLog>, servers: usize, callers: usize, duration: Duration) {
    let (count, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let callers_running: Vec<_> = (0..callers)
        .map(|_| {
            let (log, count) = (Arc::clone(&log), Arc::clone(&count));
            tokio::spawn(async move {
                let mut latencies =
                    Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("up to a minute");
                while begun.elapsed() < duration {
                    let asked = Instant::now();
                    let results = log.append(vec![entry()]).await;
                    assert!(results[0].is_ok(), "{results:?}");
                    latencies.saturating_record(asked.elapsed().as_micros().try_into().unwrap_or(u64::MAX));
                    count.fetch_add(1, Ordering::Relaxed);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("up to a minute");
    for caller in callers_running {
        latencies.add(caller.await.expect("no caller panics")).expect("the same digits");
    }
    let milliseconds = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "append    {servers} server(s) {callers:>4} callers  {:>9.0} entries/s  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms",
        count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64(),
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(0.999),
    );
}

/// A node without a copy follows a stream that is there already.
async fn catch_up(cluster: &NatsCluster, folder: &Path) {
    let writer = open(cluster, 1, "catch-up", &folder.join("writer")).await;
    for _ in 0..FOLLOWED / 4_000 {
        let results = writer.append(vec![entry(); 4_000]).await;
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|result| result.is_err()));
    }
    let begun = Instant::now();
    let node = open(cluster, 1, "catch-up", &folder.join("fresh")).await;
    let mut tail = node.tail(0).expect("nothing was trimmed");
    let mut followed = 0;
    while followed < FOLLOWED {
        followed += tail.next().await.expect("the stream is followed").len() as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("catch up  {followed} entries in {seconds:.2} s, {:.0} entries/s", followed as f64 / seconds);
}
