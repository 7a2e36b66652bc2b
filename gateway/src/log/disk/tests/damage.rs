//! What opens after damage and what does not: a torn last batch is cut, everything else is named, nothing gets shorter
//! silently.

use std::fs;

use super::super::durable_head::DurableHead;
use super::*;

/// Four batches of three entries, the directory as it was left, and what it held.
async fn four_batches(change: impl FnOnce(&mut DiskOptions)) -> (TempDir, Vec<LogEntry>) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    change(&mut options);
    let log = open(options.clone());
    for name in ["one", "two", "three", "four"] {
        append(&log, batch(name, 3)).await;
        // With a small write buffer each becomes a table meanwhile.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let entries = everything(&log).await.unwrap();
    drop(log);
    // The database cuts the room that it laid out when it opens a journal: the files become small.
    drop(open(options));
    (directory, entries)
}

fn copy(from: &Path) -> TempDir {
    fn below(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                below(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    below(from, to.path());
    to
}

fn journal(directory: &Path) -> PathBuf {
    directory.join("entries/0.jnl")
}

/// Where these bytes begin in a file.
fn place(path: &Path, wanted: &str) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes()).expect("it is in the file")
}

/// The lowest bit: the database believes lengths in its tables, and a high bit of one would ask for all memory there is.
fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 0x01;
    fs::write(path, bytes).unwrap();
}

/// Lets the durable head say something else.
fn set_durable(directory: &Path, head: u64) {
    let (mut durable, reach) = DurableHead::open(&directory.join("durable")).unwrap().unwrap();
    durable.write(durable_head::Reach { head, ..reach }).unwrap();
}

fn refusal(options: DiskOptions) -> OpenError {
    DiskLog::open(options, Clock::system()).err().expect("it does not open")
}

fn with_new_epoch(directory: &Path) -> DiskOptions {
    DiskOptions { new_epoch: true, fresh_epoch: Epoch::from_bits(2), ..options(directory) }
}

#[tokio::test]
async fn a_torn_last_batch_that_nobody_was_told_of_is_cut() {
    let (directory, entries) = four_batches(|_| ()).await;
    set_durable(directory.path(), 9);
    let journal = journal(directory.path());
    flip(&journal, place(&journal, "four:1"));
    let log = open(options(directory.path()));
    assert_eq!(everything(&log).await.unwrap(), entries[..9]);
    assert_eq!(append(&log, batch("again", 2)).await, [10, 11]);
    drop(log);
    assert_eq!(everything(&open(options(directory.path()))).await.unwrap().len(), 11);
}

#[tokio::test]
async fn a_lost_end_that_was_acknowledged_is_refused_until_a_new_epoch_is_asked_for() {
    let (directory, entries) = four_batches(|_| ()).await;
    let journal = journal(directory.path());
    flip(&journal, place(&journal, "four:1"));
    let damaged = fs::read(&journal).unwrap();
    for _ in 0..2 {
        let refused = refusal(options(directory.path()));
        assert!(matches!(refused, OpenError::BelowDurableHead { head: 9, durable: 12 }), "{refused}");
        assert!(refused.to_string().contains("new epoch"));
        assert!(fs::read(&journal).unwrap() == damaged, "nothing is touched");
    }
    let log = open(with_new_epoch(directory.path()));
    assert_eq!(log.state().await.unwrap().epoch, Epoch::from_bits(2));
    assert_eq!(everything(&log).await.unwrap(), entries[..9]);
    assert_eq!(append(&log, batch("on", 1)).await, [10]);
    drop(log);
    assert_eq!(everything(&open(options(directory.path()))).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_durable_head_above_the_log_is_refused_until_a_new_epoch_is_asked_for() {
    let (directory, _) = four_batches(|_| ()).await;
    set_durable(directory.path(), 15);
    let refused = refusal(options(directory.path()));
    assert!(matches!(refused, OpenError::BelowDurableHead { head: 12, durable: 15 }), "{refused}");
    assert_eq!(append(&open(with_new_epoch(directory.path())), batch("on", 1)).await, [13]);
}

#[tokio::test]
async fn damage_in_front_of_whole_batches_is_named_and_never_accepted() {
    let (directory, _) = four_batches(|_| ()).await;
    // Even if the durable head says nothing about it.
    set_durable(directory.path(), 0);
    let journal = journal(directory.path());
    flip(&journal, place(&journal, "two:1"));
    let damaged = fs::read(&journal).unwrap();
    for options in [options(directory.path()), with_new_epoch(directory.path())] {
        let refused = refusal(options);
        assert!(matches!(&refused, OpenError::DamagedEntry(damage) if damage.number == 4), "{refused}");
        assert!(refused.to_string().contains("entry 4 "), "{refused}");
        assert!(fs::read(&journal).unwrap() == damaged, "nothing is touched");
    }
}

#[tokio::test]
async fn damage_in_front_of_a_later_journal_is_named_and_never_accepted() {
    let (directory, entries) = four_batches(|_| ()).await;
    set_durable(directory.path(), 0);
    let first = journal(directory.path());
    let second = first.with_file_name("1.jnl");
    // A batch begins 13 bytes in front of its first item, whose payload begins 41 bytes into it.
    let border = place(&first, "three:0") - 13 - 41;
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..border]).unwrap();
    fs::write(&second, &bytes[border..]).unwrap();
    let whole = copy(directory.path());
    assert_eq!(survivors(whole.path()).await.unwrap(), entries, "the border is right");
    // With nothing whole in front, what is named is the last one that is missing.
    for (wanted, number) in [("two:2", 4), ("one:0", 3)] {
        let copy = copy(directory.path());
        flip(&journal(copy.path()), place(&first, wanted));
        let refused = refusal(options(copy.path()));
        assert!(matches!(&refused, OpenError::DamagedEntry(damage) if damage.number == number), "{refused}");
    }
    flip(&second, place(&second, "four:0"));
    assert_eq!(survivors(directory.path()).await.unwrap(), entries[..9]);
}

/// Opens a damaged copy and reads it: either it is refused or an error names what is wrong, or this much is there.
async fn survivors(directory: &Path) -> Result<Vec<LogEntry>, String> {
    let log = DiskLog::open(options(directory), Clock::system()).map_err(|error| error.to_string())?;
    everything(&log).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn no_flipped_byte_of_the_journal_makes_the_log_shorter_silently() {
    let (directory, entries) = four_batches(|_| ()).await;
    let length = fs::metadata(journal(directory.path())).unwrap().len();
    let last_batch = place(&journal(directory.path()), "four:0") - 64;
    let mut refused = 0;
    for durable in [12, 9] {
        for place in (0..usize::try_from(length).unwrap()).step_by(11) {
            let copy = copy(directory.path());
            set_durable(copy.path(), durable);
            flip(&journal(copy.path()), place);
            match survivors(copy.path()).await {
                Ok(found) if found == entries => {}
                Ok(found) => {
                    assert!(durable == 9 && place >= last_batch, "byte {place}: {} are left", found.len());
                    assert_eq!(found, entries[..9], "byte {place}");
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn a_last_batch_that_ends_or_turns_to_zeros_anywhere_is_cut() {
    let (directory, entries) = four_batches(|_| ()).await;
    set_durable(directory.path(), 9);
    let whole = fs::read(journal(directory.path())).unwrap();
    let begin = place(&journal(directory.path()), "four:0");
    for (round, end) in (begin..whole.len()).step_by(7).enumerate() {
        let copy = copy(directory.path());
        let mut torn = whole.clone();
        if round % 2 == 0 {
            torn.truncate(end);
        } else {
            // Of what was not synced a power failure keeps some pages and not others.
            torn[end..].iter_mut().take(100).for_each(|byte| *byte = 0);
        }
        fs::write(journal(copy.path()), torn).unwrap();
        assert_eq!(survivors(copy.path()).await.unwrap(), entries[..9], "cut at {end}");
    }
}

/// Files of tables, which have numbers for names.
fn tables(directory: &Path) -> Vec<PathBuf> {
    let tables = fs::read_dir(directory.join("entries/keyspaces/1/tables")).unwrap();
    tables.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn no_flipped_byte_of_a_table_makes_the_log_shorter_silently() {
    let (directory, entries) = four_batches(|options| options.write_buffer_bytes = 200).await;
    assert!(tables(directory.path()).len() > 1, "tables are written");
    let mut named = 0;
    for table in tables(directory.path()) {
        let length = fs::metadata(&table).unwrap().len();
        for place in (0..usize::try_from(length).unwrap()).step_by(53) {
            let copy = copy(directory.path());
            flip(&copy.path().join(table.strip_prefix(directory.path()).unwrap()), place);
            match survivors(copy.path()).await {
                Ok(found) => assert!(found == entries, "byte {place}: {} are left", found.len()),
                Err(error) => named += usize::from(error.contains("entry ")),
            }
        }
    }
    assert!(named > 10, "{named}");
}

/// Every file below a directory, by its path from there.
fn files(directory: &Path, below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join(below)).unwrap().map(|entry| entry.unwrap());
    let found = entries.flat_map(|entry| {
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() { files(directory, &path) } else { vec![path] }
    });
    found.collect()
}

#[tokio::test]
async fn no_file_that_is_gone_or_damaged_makes_the_log_shorter_silently_or_takes_others_with_it() {
    let (directory, entries) = four_batches(|options| options.write_buffer_bytes = 200).await;
    let all = files(directory.path(), Path::new(""));
    assert!(all.len() > 10 && tables(directory.path()).len() > 1, "{all:?}");
    for file in &all {
        for remove in [true, false] {
            let copy = copy(directory.path());
            let damaged = copy.path().join(file);
            let length = usize::try_from(fs::metadata(&damaged).unwrap().len()).unwrap();
            if remove {
                fs::remove_file(&damaged).unwrap();
            } else if length > 0 {
                flip(&damaged, length / 2);
            }
            match survivors(copy.path()).await {
                Ok(found) => assert!(found == entries, "{}: {} are left", file.display(), found.len()),
                Err(_) => {
                    for table in
                        all.iter().filter(|other| other.starts_with("entries/keyspaces/1") && *other != file)
                    {
                        assert!(
                            copy.path().join(table).exists(),
                            "{} took {}",
                            file.display(),
                            table.display()
                        );
                    }
                }
            }
        }
    }
}
