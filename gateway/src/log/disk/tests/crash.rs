//! Processes that are killed and disks that fail: this binary runs one of its own tests in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

const DIRECTORY: &str = "TEST_LOG_DIRECTORY";
const FAULT: &str = "TEST_FAULT";
const CONTROL: &str = "FAULT_CONTROL";

/// A process that runs only this ignored test.
fn process(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture"]).arg(format!("log::disk::tests::crash::{test}"));
    command.env(DIRECTORY, directory);
    command
}

/// Where the test in a process of its own works; `None` when somebody runs all ignored tests.
fn given_directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a process of its own, which is killed"]
async fn appends_until_it_is_killed() {
    let Some(directory) = given_directory() else { return };
    let log = Arc::new(open(DiskOptions { write_buffer_bytes: 50_000, ..options(&directory) }));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                for round in 0.. {
                    let numbers = append(&log, batch(&format!("{caller}-{round}"), 3)).await;
                    println!("\nkept {}", numbers[2]);
                    if caller == 0 && round % 50 == 49 {
                        log.trim(numbers[0] / 2).await;
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn after_a_kill_everything_acknowledged_is_there_and_no_batch_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=4 {
        let mut process = process("appends_until_it_is_killed", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let kept = |line: String| line.strip_prefix("kept ").and_then(|number| number.parse::<u64>().ok());
        let mut kept = lines.map_while(Result::ok).filter_map(kept);
        let mut newest = kept.by_ref().take(400 * round).max().unwrap();
        process.kill().unwrap();
        // What it had said before it was killed counts too.
        newest = kept.max().unwrap_or(0).max(newest);
        process.wait().unwrap();

        let log = open(options(directory.path()));
        let state = log.state().await.unwrap();
        assert!(state.head >= newest, "{newest} was acknowledged, the log ends at {}", state.head);
        let mut entries = everything(&log).await.unwrap();
        // Trimming may have cut through a batch; its callers know.
        let whole = entries.iter().position(|entry| label(entry).1 == "0").unwrap();
        entries.drain(..whole);
        for torn in entries.chunks(3) {
            assert_eq!(torn.len(), 3, "the last batch is torn");
            let (name, _) = label(&torn[0]);
            let expected = ["0", "1", "2"].map(|index| (name.clone(), index.to_owned()));
            assert!(torn.iter().map(label).eq(expected), "{torn:?}");
        }
    }
}

/// The name of the entry's batch and its place in it.
fn label(entry: &LogEntry) -> (String, String) {
    let text = String::from_utf8(entry.payload.to_vec()).unwrap();
    let mut parts = text.split(':').map(str::to_owned);
    (parts.next().unwrap(), parts.next().unwrap())
}

#[tokio::test]
#[ignore = "runs in a process of its own, in front of a disk that fails"]
async fn meets_a_failing_disk() {
    let Some(directory) = given_directory() else { return };
    let control = PathBuf::from(std::env::var(CONTROL).unwrap());
    let log = open(options(&directory));
    let mut tail = log.tail(0).unwrap();
    append(&log, batch("before", 3)).await;
    assert_eq!(tail.next().await.unwrap().len(), 3);

    fs::write(&control, std::env::var(FAULT).unwrap()).unwrap();
    let failed = log.append(batch("meanwhile", 2)).await;
    assert!(failed.iter().all(|result| matches!(result, Err(AppendError::Ambiguous(_)))), "{failed:?}");
    fs::write(&control, "").unwrap();
    let refused = log.append(batch("afterwards", 2)).await;
    assert!(refused.iter().all(|result| matches!(result, Err(AppendError::Unavailable(_)))), "{refused:?}");
    let Err(TailError::Unavailable(reason)) = tail.next().await else { panic!("the tail goes on") };
    assert!(reason.contains("writing to disk failed: ") && reason.contains("os error"), "{reason}");
    assert!(matches!(log.tail(0).err(), Some(TailError::Unavailable(_))));
    assert!(log.state().await.is_err() && log.read(vec![1]).await.is_err());
}

#[tokio::test]
#[ignore = "runs in a process of its own, in front of a disk that fills up"]
async fn meets_a_disk_that_fills_up() {
    let Some(directory) = given_directory() else { return };
    let control = PathBuf::from(std::env::var(CONTROL).unwrap());
    let log = open(DiskOptions { reserve_bytes: 1_000_000, ..options(&directory) });
    append(&log, batch("before", 3)).await;
    fs::write(&control, "free 900000").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let housekeeping = NewEntry::housekeeping(Bytes::from_static(b"tick"));
    let results = log.append([batch("meanwhile", 1), vec![housekeeping]].concat()).await;
    assert_eq!(results, [Err(AppendError::Full), Ok(4)]);
    fs::write(&control, "").unwrap();
    assert_eq!(append(&log, batch("afterwards", 2)).await, [5, 6]);
}

/// Compiles the library that makes calls fail, and runs this test with it.
fn run_with_faults(test: &str, directory: &Path, fault: &str) {
    let library = directory.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.unwrap().success());
    let log = directory.join("log");
    fs::create_dir_all(&log).unwrap();
    let output = process(test, &log)
        .env("LD_PRELOAD", library)
        .env("FAULT_DIRECTORY", fs::canonicalize(&log).unwrap())
        .env(CONTROL, directory.join("control"))
        .env(FAULT, fault)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{fault}: {said}");
}

#[tokio::test]
async fn a_failed_write_or_sync_ends_the_log_and_never_says_ok() {
    for fault in ["fsync EIO", "write ENOSPC", "write EIO"] {
        let directory = tempfile::tempdir().unwrap();
        run_with_faults("meets_a_failing_disk", directory.path(), fault);
        let entries = everything(&open(options(&directory.path().join("log")))).await.unwrap();
        let names: Vec<_> = entries.iter().map(|entry| label(entry).0).collect();
        assert_eq!(names[..3], ["before"; 3], "{fault}");
        assert!(names[3..].is_empty() || names[3..] == ["meanwhile"; 2], "{fault}: {names:?}");
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_refuses_before_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    run_with_faults("meets_a_disk_that_fills_up", directory.path(), "");
}

#[tokio::test]
async fn a_failure_in_the_background_ends_the_log_even_if_nothing_is_appended() {
    let log = in_directory(Clock::system(), |options| options.write_buffer_bytes = 10_000);
    let mut tail = log.tail(0).unwrap();
    append(&log.log, batch("x", 1)).await;
    assert_eq!(tail.next().await.unwrap().len(), 1);
    // Where tables are written to.
    fs::remove_dir_all(log.guard.path().join("entries/keyspaces/1/tables")).unwrap();
    append(&log.log, batch("y", 200)).await;
    let mut seen = 1;
    let reason = loop {
        match tail.next().await {
            Ok(entries) => seen += entries.len(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(seen == 201 && reason.contains("outside of any append"), "{seen}: {reason}");
    let refused = log.append(batch("z", 1)).await;
    assert!(matches!(refused[..], [Err(AppendError::Unavailable(_))]), "{refused:?}");
}
