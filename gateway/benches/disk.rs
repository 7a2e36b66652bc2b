//! The log on disk alone: durable appends, reading everything back, memory, and what trimming gives back.
//!
//! `cargo bench --bench disk [directory]`; the directory must be on the disk that is to be measured and is left empty.

#![expect(clippy::print_stdout, reason = "a benchmark by hand prints what it measured")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway::clock::Clock;
use gateway::domain::Epoch;
use gateway::log::{DiskLog, DiskOptions, Log, NewEntry};
use hdrhistogram::Histogram;
use tokio::time::Instant;

const ENTRY_BYTES: usize = 250;
const SCANNED: u64 = 1_000_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(worker_threads = 2)]
async fn main() {
    // Cargo passes `--bench` as well.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = PathBuf::from(given.unwrap_or_else(|| "target/bench-disk".to_owned()));
    for (callers, duration) in [(1, 5), (64, 8), (512, 12)] {
        appends(&directory, callers, Duration::from_secs(duration)).await;
    }
    rebuild_and_trim(&directory).await;
    let _ = std::fs::remove_dir_all(&directory);
}

fn open(directory: &Path) -> DiskLog {
    DiskLog::open(DiskOptions::new(directory, Epoch::from_bits(1)), Clock::system()).expect("the log opens")
}

fn entry() -> NewEntry {
    NewEntry::ordinary(Bytes::from(vec![b'x'; ENTRY_BYTES]))
}

/// So many callers that append one entry each, again and again.
async fn appends(directory: &Path, callers: usize, duration: Duration) {
    let _ = std::fs::remove_dir_all(directory);
    let log = Arc::new(open(directory));
    let count = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let callers_running: Vec<_> = (0..callers)
        .map(|_| {
            let (log, count) = (Arc::clone(&log), Arc::clone(&count));
            tokio::spawn(async move {
                let mut latencies = Histogram::<u64>::new(3).expect("three digits are possible");
                while begun.elapsed() < duration {
                    let asked = Instant::now();
                    let results = log.append(vec![entry()]).await;
                    assert!(results[0].is_ok(), "{results:?}");
                    let micros = asked.elapsed().as_micros().try_into().expect("soon");
                    latencies.record(micros).expect("the histogram grows");
                    count.fetch_add(1, Ordering::Relaxed);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Histogram::<u64>::new(3).expect("three digits are possible");
    for caller in callers_running {
        latencies.add(caller.await.expect("no caller panics")).expect("all histograms are alike");
    }
    let rate = count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "{callers:>4} callers: {rate:>8.0} appends/s, ms: p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.1}; RSS {} MiB",
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() as f64 / 1_000.0,
        resident_mib(),
    );
}

async fn rebuild_and_trim(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
    let log = open(directory);
    let begun = Instant::now();
    for _ in 0..SCANNED / 1_000 {
        let results = log.append(vec![entry(); 1_000]).await;
        assert!(results.iter().all(Result::is_ok));
    }
    println!(
        "filled in {:.2} s with batches of 1,000; RSS {} MiB",
        begun.elapsed().as_secs_f64(),
        resident_mib()
    );
    drop(log);
    let begun = Instant::now();
    let log = open(directory);
    println!("opened in {:.3} s; RSS {} MiB", begun.elapsed().as_secs_f64(), resident_mib());
    for round in ["first", "second"] {
        let begun = Instant::now();
        let mut tail = log.tail(0).expect("nothing is trimmed");
        let mut seen = 0;
        while seen < SCANNED {
            seen += tail.next().await.expect("the log is whole").len() as u64;
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{round} scan: {:.0} entries/s ({seconds:.2} s); RSS {} MiB",
            SCANNED as f64 / seconds,
            resident_mib()
        );
    }
    let begun = Instant::now();
    for number in 1..=1_000 {
        log.read(vec![number * 997]).await.expect("the log is whole");
    }
    println!("single reads: {:.0} us each", begun.elapsed().as_secs_f64() * 1_000.0);
    let before = disk_usage(directory);
    log.trim(SCANNED).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    println!("trimmed: {} MiB of {} MiB are left", disk_usage(directory) >> 20, before >> 20);
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux machine");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_024
}

/// What the files below a directory take on disk, in bytes.
fn disk_usage(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
