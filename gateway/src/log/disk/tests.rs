//! The contract suite on real directories, and what only a log on disk promises: it comes back as it was.

mod crash;
mod damage;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::log::contract::{self, With};

/// A log in a directory that goes away with it.
type InDirectory = With<DiskLog, TempDir>;

fn options(directory: &Path) -> DiskOptions {
    DiskOptions { reserve_bytes: 0, ..DiskOptions::new(directory, Epoch::from_bits(1)) }
}

/// Tables so small that every test crosses their borders.
fn small_tables(directory: &Path) -> DiskOptions {
    DiskOptions { write_buffer_bytes: 2_000, ..options(directory) }
}

fn open(options: DiskOptions) -> DiskLog {
    DiskLog::open(options, Clock::system()).unwrap()
}

fn in_directory(clock: Clock, change: impl FnOnce(&mut DiskOptions)) -> InDirectory {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    change(&mut options);
    With { log: DiskLog::open(options, clock).unwrap(), guard: directory }
}

mod in_the_journal {
    use super::*;

    fn new_log(clock: Clock) -> InDirectory {
        in_directory(clock, |_| ())
    }
    contract::log_contract_tests!(new_log(Clock::system()));
    contract::log_clock_contract_tests!(new_log);
}

mod in_many_tables {
    use super::*;

    fn new_log(clock: Clock) -> InDirectory {
        in_directory(clock, |options| options.write_buffer_bytes = 100_000)
    }
    contract::log_contract_tests!(new_log(Clock::system()));
    contract::log_clock_contract_tests!(new_log);
}

fn batch(prefix: &str, count: usize) -> Vec<NewEntry> {
    let entry = |index| NewEntry::ordinary(Bytes::from(format!("{prefix}:{index}:{}", "x".repeat(100))));
    (0..count).map(entry).collect()
}

async fn append(log: &DiskLog, batch: Vec<NewEntry>) -> Vec<u64> {
    log.append(batch).await.into_iter().map(|result| result.unwrap()).collect()
}

/// Everything from the log's beginning to its head.
async fn everything(log: &DiskLog) -> Result<Vec<LogEntry>, TailError> {
    let state = log.state().await.unwrap();
    let mut entries = Vec::new();
    let mut tail = log.tail(state.first - 1)?;
    while (entries.len() as u64) < state.head + 1 - state.first {
        entries.extend(tail.next().await?);
    }
    Ok(entries)
}

/// What the files below a directory take on disk, in bytes.
fn disk_usage(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // It was removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

/// Waits for what happens in another thread.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn what_was_accepted_is_there_after_opening_again_with_its_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..5 {
        let log = open(small_tables(directory.path()));
        assert_eq!(log.state().await.unwrap().epoch, Epoch::from_bits(1));
        assert_eq!(everything(&log).await.unwrap(), all);
        for index in 0..10 {
            append(&log, batch(&format!("{round}:{index}"), 7)).await;
        }
        all = everything(&log).await.unwrap();
        assert_eq!(all.len(), 70 * (round + 1));
    }
}

#[tokio::test]
async fn what_was_handed_over_when_the_log_closes_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let log = Arc::new(open(options(directory.path())));
    let callers: Vec<_> = (0..50)
        .map(|index| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { append(&log, batch(&index.to_string(), 3)).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    drop(Arc::into_inner(log).unwrap());
    let log = open(options(directory.path()));
    assert_eq!(everything(&log).await.unwrap().len(), 150);
}

#[tokio::test]
async fn timestamps_never_step_back_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for (now_us, expected_ms) in [(9_000_000, 9_000), (4_000_000, 9_000), (10_000_000, 10_000)] {
        let log = DiskLog::open(options(directory.path()), Clock::manual(now_us).0).unwrap();
        append(&log, batch("x", 1)).await;
        assert_eq!(everything(&log).await.unwrap().last().unwrap().timestamp_ms, expected_ms);
    }
    // Not even when every entry is gone.
    let log = DiskLog::open(options(directory.path()), Clock::manual(1_000_000).0).unwrap();
    log.trim(3).await;
    assert_eq!(log.state().await.unwrap().first, 4);
    drop(log);
    let log = DiskLog::open(options(directory.path()), Clock::manual(1_000_000).0).unwrap();
    assert_eq!(append(&log, batch("x", 1)).await, [4], "numbers are never used again");
    assert_eq!(everything(&log).await.unwrap()[0].timestamp_ms, 10_000);
}

#[tokio::test]
async fn a_new_epoch_replaces_the_old_one_and_numbers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    append(&open(options(directory.path())), batch("x", 3)).await;
    let fresh =
        DiskOptions { new_epoch: true, fresh_epoch: Epoch::from_bits(2), ..options(directory.path()) };
    let log = open(fresh);
    let state = log.state().await.unwrap();
    assert_eq!((state.epoch, state.head), (Epoch::from_bits(2), 3));
    assert_eq!(append(&log, batch("y", 1)).await, [4]);
    drop(log);
    let log = open(options(directory.path()));
    assert_eq!(log.state().await.unwrap().epoch, Epoch::from_bits(2), "it stays");
}

#[tokio::test]
async fn a_directory_has_one_owner_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(options(directory.path()));
    let second = DiskLog::open(options(directory.path()), Clock::system());
    assert!(matches!(second, Err(OpenError::InUse(_))), "{:?}", second.err());
    // A tail that is still held does not keep the directory.
    append(&log, batch("x", 1)).await;
    let mut tail = log.tail(0).unwrap();
    assert_eq!(tail.next().await.unwrap().len(), 1);
    drop(log);
    let _log = open(options(directory.path()));
    assert!(matches!(tail.next().await, Err(TailError::Unavailable(_))));
}

#[tokio::test]
async fn a_newer_format_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    append(&open(options(directory.path())), batch("x", 1)).await;
    std::fs::write(directory.path().join("identity"), "gateway log, format 7\n").unwrap();
    let refused = DiskLog::open(options(directory.path()), Clock::system()).err().unwrap();
    assert!(matches!(refused, OpenError::NewerFormat { found: 7, known: 1 }));
    assert!(refused.to_string().contains("format 7"));
}

#[tokio::test]
async fn an_interrupted_beginning_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(options(directory.path())));
    std::fs::remove_file(directory.path().join("identity")).unwrap();
    std::fs::remove_file(directory.path().join("entries/version")).unwrap();
    let log = open(options(directory.path()));
    append(&log, batch("x", 1)).await;
    drop(log);
    // But with entries in it, it is a log that lost its identity.
    std::fs::remove_file(directory.path().join("identity")).unwrap();
    let refused = DiskLog::open(options(directory.path()), Clock::system()).err().unwrap();
    assert!(refused.to_string().contains("no identity"), "{refused}");
}

#[tokio::test]
async fn trimming_gives_the_disk_back() {
    let log = in_directory(Clock::system(), |options| options.write_buffer_bytes = 1_000_000);
    let (log, directory) = (&log.log, log.guard.path());
    for _ in 0..100 {
        append(log, vec![NewEntry::ordinary(Bytes::from(vec![b'x'; 700_000]))]).await;
        // Time to write a table, or there would be few large ones.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = disk_usage(directory);
    let tables = || disk_usage(&directory.join("entries/keyspaces"));
    assert!(before > 70_000_000 && tables() > 60_000_000, "{before}");
    log.trim(50).await;
    assert_eq!(log.state().await.unwrap().first, 51);
    eventually("half of the tables is gone", || tables() < 50_000_000).await;
    assert_eq!(everything(log).await.unwrap().len(), 50);
    log.trim(100).await;
    eventually("the tables are gone", || tables() < 500_000).await;
    // What stays is one journal: it goes when it has 64 MB and what is in it is in tables.
    let left = disk_usage(directory);
    assert!(left < 66_000_000, "{left} bytes of {before}");
    eventually("the size is asked for again", || log.shared.bytes.load(Ordering::Relaxed) < 70_000_000).await;
}

#[tokio::test]
async fn what_was_trimmed_just_before_closing_leaves_the_disk_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = || DiskOptions { write_buffer_bytes: 200_000, ..options(directory.path()) };
    let tables = || disk_usage(&directory.path().join("entries/keyspaces/1/tables"));
    let log = open(options());
    for _ in 0..20 {
        append(&log, vec![NewEntry::ordinary(Bytes::from(vec![b'x'; 300_000]))]).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    // Tables are dropped once in a while: here once for the first.
    log.trim(1).await;
    log.trim(20).await;
    drop(log);
    assert!(tables() > 3_000_000, "{} bytes are left behind", tables());
    let log = open(options());
    let state = log.state().await.unwrap();
    assert_eq!((state.first, state.head), (21, 20));
    eventually("the tables are gone", || tables() < 1_000_000).await;
    assert_eq!(append(&log, batch("x", 1)).await, [21]);
}

/// Free space that the test decides.
fn room(bytes: u64) -> (FreeSpace, Arc<AtomicU64>) {
    let free = Arc::new(AtomicU64::new(bytes));
    let asked = Arc::clone(&free);
    (Arc::new(move |_: &Path| Ok(asked.load(Ordering::SeqCst))), free)
}

#[tokio::test]
async fn a_disk_short_of_room_refuses_and_recovers_by_itself() {
    let (free_space, free) = room(1_000_000);
    let log = in_directory(Clock::system(), |options| {
        (options.reserve_bytes, options.free_space) = (100_000, free_space);
    });
    append(&log.log, batch("x", 2)).await;
    free.store(99_999, Ordering::SeqCst);
    // An answer about free space holds for a moment.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mixed = [batch("no", 1), vec![NewEntry::housekeeping(Bytes::from_static(b"yes"))]].concat();
    assert_eq!(log.append(mixed).await, [Err(AppendError::Full), Ok(3)]);
    assert_eq!(log.state().await.unwrap().short_of_room_until, None);
    free.store(25_000, Ordering::SeqCst);
    let housekeeping = || vec![NewEntry::housekeeping(Bytes::from_static(b"tick"))];
    assert_eq!(log.append(housekeeping()).await, [Err(AppendError::Full)], "a part is for nobody");
    free.store(1_000_000, Ordering::SeqCst);
    assert_eq!(append(&log.log, batch("x", 1)).await, [4]);
}

#[tokio::test]
async fn a_full_log_takes_housekeeping_only() {
    // The first answer is for opening; what is said then leaves room for small entries only.
    let answers = AtomicU64::new(0);
    let free_space: FreeSpace = Arc::new(move |_: &Path| {
        Ok(if answers.fetch_add(1, Ordering::SeqCst) == 0 { 1_200_000 } else { 1_000_500 })
    });
    let log = in_directory(Clock::system(), |options| {
        (options.reserve_bytes, options.free_space) = (1_000_000, free_space);
    });
    contract::a_full_log_takes_housekeeping_only(Arc::new(log)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appending_trimming_and_following_at_once_keeps_every_sentence_of_the_contract() {
    const CALLERS: u64 = 6;
    const ROUNDS: u64 = 120;
    const BATCH: u64 = 20;
    let log = Arc::new(in_directory(Clock::system(), |options| options.write_buffer_bytes = 60_000));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let numbers = append(&log.log, batch(&format!("{caller}-{round}"), BATCH as usize)).await;
                    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
                    if caller == 0 && round % 10 == 9 {
                        // What is this far behind may be met by the tail that reads from disk.
                        log.trim(numbers[0].saturating_sub(1_000)).await;
                    }
                }
            })
        })
        .collect();
    let head = CALLERS * ROUNDS * BATCH;
    let mut followers = Vec::new();
    for pause in [Duration::ZERO, Duration::from_millis(3)] {
        let log = Arc::clone(&log);
        followers.push(tokio::spawn(async move {
            let (mut tail, mut last) = (log.tail(0).unwrap(), 0);
            while last < head {
                match tail.next().await {
                    Ok(entries) => {
                        assert!(
                            entries.iter().map(|entry| entry.number).eq((last + 1..).take(entries.len()))
                        );
                        last = entries.last().unwrap().number;
                        let read = log.read(vec![last]).await.unwrap();
                        assert!(read[0].is_none() || read[0].as_ref() == entries.last());
                    }
                    Err(TailError::Trimmed { first }) => {
                        assert!(first > last + 1, "{first} after {last}");
                        last = first - 1;
                        tail = match log.tail(last) {
                            Ok(tail) => tail,
                            // Trimmed again meanwhile.
                            Err(_) => continue,
                        };
                    }
                    Err(error) => panic!("after {last}: {error}"),
                }
                tokio::time::sleep(pause).await;
            }
        }));
    }
    for task in callers.into_iter().chain(followers) {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("everybody gets on").unwrap();
    }
    let state = log.state().await.unwrap();
    assert_eq!(state.head, head);
    assert_eq!(everything(&log.log).await.unwrap().len() as u64, head + 1 - state.first);
}
