//! The entries in the database: one keyspace for all of them, whose tables hold one range of numbers each.
//!
//! Tables come in the order of numbers and are never merged, so trimming is dropping whole tables, which costs nothing per
//! entry. Keyspaces that come and go would do the same in public, but the database never cleans up its list of keyspaces
//! while it is open: a thousand of them leave a gigabyte behind. So tables are dropped through the tree below.
//!
//! Whoever reads here verifies: every entry must be there, in its place and as written.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::compaction::Fifo;
use fjall::config::{BlockSizePolicy, FilterPolicy, PinningPolicy};
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, SeqNo};

use super::record::{self, Damage};
use crate::log::LogEntry;

/// Blocks of tables that were read lately.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// One writes tables; there is nothing to merge.
const DATABASE_THREADS: usize = 1;

/// Larger than usual: entries are read in long runs, and an index has a line for each block.
const BLOCK_BYTES: u32 = 16 * 1024;

const KEYSPACE: &str = "entries";

/// The entries of an open log, for readers.
pub(super) struct Entries {
    /// What is before this number was trimmed, even where it is still in a table.
    first: AtomicU64,
    /// Readers hold it while they read: a closing log waits for them, then it lets go of the directory.
    keyspace: RwLock<Option<Keyspace>>,
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScanError {
    /// The log was closed meanwhile.
    Closed,
    /// The entry was trimmed.
    Trimmed,
    /// The entry is not as it was written.
    Damaged(Damage),
}

/// How much to read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkLimits {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// Without one of these the database would begin anew and remove what it then does not know: the version, the list of
/// keyspaces, and ours.
const NEEDED_FILES: [&str; 3] = ["version", "keyspaces/0/current", "keyspaces/1/current"];

/// A file without which an existing database must not be opened.
pub(super) fn missing_file(path: &Path) -> Option<PathBuf> {
    // What cannot be looked at is not there for the database either.
    NEEDED_FILES.iter().map(|file| path.join(file)).find(|file| !file.exists())
}

/// Opens the database, which then holds its own lock.
pub(super) fn open_database(path: &Path, write_buffer_bytes: u64) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(path).cache_size(CACHE_BYTES).worker_threads(DATABASE_THREADS).open()?;
    let keyspace = database.keyspace(KEYSPACE, || options(write_buffer_bytes))?;
    Ok((database, keyspace))
}

/// Removes the tables that hold nothing but entries before `first`; false when there is none.
pub(super) fn drop_tables_before(keyspace: &Keyspace, first: u64) -> fjall::Result<bool> {
    let version = keyspace.tree.current_version();
    let bound = record::key(first);
    // Looked for first: dropping nothing would still write a list of tables.
    let found = version.iter_tables().any(|table| table.metadata.key_range.max()[..] < bound[..]);
    drop(version);
    if found {
        keyspace.tree.drop_range((Bound::Unbounded, Bound::Excluded(bound)))?;
        // The lists before this one still hold the tables. Nobody reads an older state; whoever reads has its tables itself.
        keyspace.tree.get_version_history_lock().maintenance(keyspace.path(), SeqNo::MAX)?;
    }
    Ok(found)
}

/// The last number in a keyspace, 0 in an empty one.
pub(super) fn last_number(keyspace: &Keyspace) -> fjall::Result<Option<u64>> {
    let Some(last) = keyspace.last_key_value() else { return Ok(Some(0)) };
    Ok(record::number(&last.key()?))
}

/// Reads an entry that must be there.
pub(super) fn get(keyspace: &Keyspace, number: u64) -> Result<LogEntry, Damage> {
    match keyspace.get(record::key(number)) {
        Ok(Some(value)) => record::decode(number, value.into()),
        Ok(None) => Err(Damage::missing(number)),
        Err(error) => Err(Damage::unreadable(number, &error)),
    }
}

impl Entries {
    pub(super) fn new(keyspace: Keyspace, first: u64) -> Self {
        Self { first: AtomicU64::new(first), keyspace: RwLock::new(Some(keyspace)) }
    }

    /// What is before `first` is not missed any more.
    pub(super) fn trimmed(&self, first: u64) {
        self.first.store(first, Ordering::SeqCst);
    }

    /// Waits for readers and lets go of the keyspace.
    pub(super) fn close(&self) {
        *self.keyspace.write().expect("no code panics while it closes the log") = None;
    }

    /// Reads entries in order from `first` on, not beyond `until`; at least one.
    pub(super) fn scan(
        &self,
        first: u64,
        until: u64,
        limits: ChunkLimits,
    ) -> Result<Vec<LogEntry>, ScanError> {
        let keyspace = self.keyspace.read().expect("no code panics while it closes the log");
        let keyspace = keyspace.as_ref().ok_or(ScanError::Closed)?;
        let expected = usize::try_from(until + 1 - first).unwrap_or(usize::MAX).min(limits.entries);
        let mut entries = Vec::with_capacity(expected);
        let (mut next, mut bytes) = (first, 0);
        for guard in keyspace.range(record::key(first)..=record::key(until)) {
            let read = guard.into_inner();
            let (key, value) = read.map_err(|error| self.damaged(Damage::unreadable(next, &error)))?;
            if record::number(&key) != Some(next) {
                return Err(self.damaged(Damage::missing(next)));
            }
            let entry = record::decode(next, value.into()).map_err(|damage| self.damaged(damage))?;
            bytes += entry.payload.len();
            next += 1;
            entries.push(entry);
            if entries.len() >= limits.entries || bytes >= limits.bytes {
                return Ok(entries);
            }
        }
        if next <= until {
            return Err(self.damaged(Damage::missing(next)));
        }
        Ok(entries)
    }

    /// Reads single entries; `None` for each that was trimmed.
    pub(super) fn get(&self, numbers: &[u64]) -> Result<Vec<Option<LogEntry>>, ScanError> {
        let keyspace = self.keyspace.read().expect("no code panics while it closes the log");
        let keyspace = keyspace.as_ref().ok_or(ScanError::Closed)?;
        let read = |number: &u64| match get(keyspace, *number).map_err(|damage| self.damaged(damage)) {
            Ok(entry) => Ok(Some(entry)),
            Err(ScanError::Trimmed) => Ok(None),
            Err(error) => Err(error),
        };
        numbers.iter().map(read).collect()
    }

    /// What was trimmed while it was being read is not damaged.
    fn damaged(&self, damage: Damage) -> ScanError {
        let trimmed = damage.number < self.first.load(Ordering::SeqCst);
        if trimmed { ScanError::Trimmed } else { ScanError::Damaged(damage) }
    }
}

/// Entries come in order, are never changed and never looked for in vain: nothing is merged, there are no filters, and
/// indexes are read when they are needed, since there may be thousands of tables.
fn options(write_buffer_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(write_buffer_bytes)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .filter_policy(FilterPolicy::disabled())
        .filter_block_pinning_policy(PinningPolicy::disabled())
        .index_block_pinning_policy(PinningPolicy::disabled())
        .compaction_strategy(Arc::new(Fifo::new(u64::MAX, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: ChunkLimits = ChunkLimits { entries: 100, bytes: 1_000_000 };

    #[test]
    fn a_missing_entry_is_named_unless_it_was_trimmed() {
        let directory = tempfile::tempdir().unwrap();
        let (_database, keyspace) = open_database(directory.path(), 1_000_000).unwrap();
        for number in [1, 2, 4, 5] {
            keyspace.insert(record::key(number), record::encode(number, 1_000, b"payload")).unwrap();
        }
        let entries = Entries::new(keyspace, 1);
        let missing = |number| ScanError::Damaged(Damage::missing(number));
        assert_eq!(entries.scan(1, 5, WHOLE), Err(missing(3)));
        assert_eq!(entries.scan(4, 6, WHOLE), Err(missing(6)));
        assert_eq!(entries.get(&[2, 3]), Err(missing(3)));
        entries.trimmed(4);
        assert_eq!(entries.scan(1, 5, WHOLE), Err(ScanError::Trimmed));
        assert_eq!(entries.get(&[3, 4]).unwrap()[0], None);
        let numbers = entries.scan(4, 5, WHOLE).unwrap().into_iter().map(|entry| entry.number);
        assert!(numbers.eq([4, 5]));
        let one = ChunkLimits { entries: 1, bytes: 1_000_000 };
        assert_eq!(entries.scan(4, 5, one).unwrap().len(), 1, "a chunk has a bound");
        entries.close();
        assert_eq!(entries.scan(4, 5, WHOLE), Err(ScanError::Closed));
    }
}
