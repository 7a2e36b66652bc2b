//! The slices of the log: one keyspace of the database for each, named after the first number it may hold.
//!
//! Numbers grow from slice to slice without a hole, so trimming is dropping whole keyspaces, which costs nothing per entry
//! and gives the disk back at once. Whoever reads here verifies: every entry must be there, in its place and as written.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, RwLock};

use fjall::compaction::Fifo;
use fjall::config::{BlockSizePolicy, FilterPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::record::{self, Damage};
use crate::log::LogEntry;

/// What is not in tables yet, in bytes of memory a keyspace; flushed beyond it.
const WRITE_BUFFER_BYTES: u64 = 16 * 1024 * 1024;

/// Larger than usual: entries are read in long runs, and the index of a block costs memory for each.
const BLOCK_BYTES: u32 = 16 * 1024;

/// Entries from `first` on, up to the next slice.
#[derive(Clone)]
pub(super) struct Slice {
    pub(super) first: u64,
    pub(super) keyspace: Keyspace,
}

/// All slices of an open log, oldest first; the last takes what is appended.
pub(super) struct Slices {
    list: Mutex<Vec<Slice>>,
    /// Readers hold it while they read: a closing log waits for them, then it lets go of the directory.
    open: RwLock<bool>,
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScanError {
    /// The log was closed meanwhile.
    Closed,
    /// The entry was trimmed.
    Trimmed,
    Damaged(Damage),
}

/// How much to read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkLimits {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Slice {
    /// Creates the keyspace for what comes from `first` on.
    pub(super) fn create(database: &Database, first: u64) -> fjall::Result<Self> {
        let keyspace = database.keyspace(&format!("{first:020}"), options)?;
        Ok(Self { first, keyspace })
    }

    /// The slices in a database, oldest first; keyspaces that are none of ours are damage.
    pub(super) fn all(database: &Database) -> fjall::Result<Option<Vec<Self>>> {
        let mut slices = Vec::new();
        for name in database.list_keyspace_names() {
            let Ok(first) = name.parse() else { return Ok(None) };
            slices.push(Self { first, keyspace: database.keyspace(&name, options)? });
        }
        slices.sort_by_key(|slice| slice.first);
        Ok(Some(slices))
    }

    /// The first and the last entry that are really there.
    pub(super) fn borders(&self) -> Result<Option<(LogEntry, LogEntry)>, Damage> {
        let unreadable = |error| Damage::new(self.first, format!("or one behind it cannot be read: {error}"));
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(unreadable)?;
            let number =
                record::number(&key).ok_or_else(|| Damage::new(self.first, "has a neighbour without number"))?;
            record::decode(number, value.into())
        };
        let (Some(first), Some(last)) = (self.keyspace.first_key_value(), self.keyspace.last_key_value())
        else {
            return Ok(None);
        };
        Ok(Some((read(first)?, read(last)?)))
    }

    fn get(&self, number: u64) -> Result<LogEntry, Damage> {
        match self.keyspace.get(record::key(number)) {
            Ok(Some(value)) => record::decode(number, value.into()),
            Ok(None) => Err(Damage::missing(number)),
            Err(error) => Err(Damage::new(number, format!("cannot be read: {error}"))),
        }
    }

    /// Appends to `chunk` what this slice has from its next number on, up to `until`.
    fn scan(&self, chunk: &mut Chunk, until: u64) -> Result<ControlFlow<()>, Damage> {
        for guard in self.keyspace.range(record::key(chunk.next)..=record::key(until)) {
            let number = chunk.next;
            let (key, value) = guard
                .into_inner()
                .map_err(|error| Damage::new(number, format!("cannot be read: {error}")))?;
            if record::number(&key) != Some(number) {
                return Err(Damage::missing(number));
            }
            let entry = record::decode(number, value.into())?;
            if chunk.push(entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What a scan has collected.
struct Chunk {
    next: u64,
    entries: Vec<LogEntry>,
    bytes: usize,
    limits: ChunkLimits,
}

impl Chunk {
    fn push(&mut self, entry: LogEntry) -> ControlFlow<()> {
        self.bytes += entry.payload.len();
        self.next += 1;
        self.entries.push(entry);
        let full = self.entries.len() >= self.limits.entries || self.bytes >= self.limits.bytes;
        if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Slices {
    pub(super) fn new(list: Vec<Slice>) -> Self {
        Self { list: Mutex::new(list), open: RwLock::new(true) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slice>> {
        self.list.lock().expect("no code panics while it holds the slices")
    }

    /// Adds the slice that takes what is appended from now on.
    pub(super) fn push(&self, slice: Slice) {
        self.lock().push(slice);
    }

    /// The first number of the oldest slice that holds more than what ends with `through`.
    pub(super) fn first_behind(&self, through: u64) -> u64 {
        let slices = self.lock();
        let kept = slices.partition_point(|slice| slice.first <= through.saturating_add(1)).saturating_sub(1);
        slices.get(kept).map_or(1, |slice| slice.first)
    }

    /// Takes out the slices in front of the one that begins with `first`.
    pub(super) fn take_before(&self, first: u64) -> Vec<Slice> {
        let mut slices = self.lock();
        let taken = slices.partition_point(|slice| slice.first < first);
        slices.drain(..taken).collect()
    }

    /// Waits for readers and lets go of all keyspaces.
    pub(super) fn close(&self) {
        *self.open.write().expect("no code panics while it closes the log") = false;
        self.lock().clear();
    }

    /// Reads entries in order from `first` on, not beyond `until`; at least one if there is one.
    pub(super) fn scan(&self, first: u64, until: u64, limits: ChunkLimits) -> Result<Vec<LogEntry>, ScanError> {
        let open = self.open.read().expect("no code panics while it closes the log");
        if !*open {
            return Err(ScanError::Closed);
        }
        let expected = usize::try_from(until + 1 - first).unwrap_or(usize::MAX).min(limits.entries);
        let mut chunk = Chunk { next: first, entries: Vec::with_capacity(expected), bytes: 0, limits };
        while chunk.next <= until {
            let before = chunk.next;
            let Some((slice, last)) = self.holding(chunk.next) else { return Err(ScanError::Trimmed) };
            if slice.scan(&mut chunk, until.min(last)).map_err(ScanError::Damaged)?.is_break() {
                break;
            }
            if chunk.next <= until.min(last) {
                return Err(ScanError::Damaged(Damage::missing(chunk.next)));
            }
            debug_assert!(chunk.next > before, "each slice brings the scan on");
        }
        Ok(chunk.entries)
    }

    /// Reads single entries; `None` for each that was trimmed.
    pub(super) fn get(&self, numbers: &[u64]) -> Result<Vec<Option<LogEntry>>, ScanError> {
        let open = self.open.read().expect("no code panics while it closes the log");
        if !*open {
            return Err(ScanError::Closed);
        }
        let read = |number: &u64| {
            let Some((slice, _)) = self.holding(*number) else { return Ok(None) };
            slice.get(*number).map(Some).map_err(ScanError::Damaged)
        };
        numbers.iter().map(read).collect()
    }

    /// The slice that this number belongs to and the last number that does; `None` when it was trimmed.
    fn holding(&self, number: u64) -> Option<(Slice, u64)> {
        let slices = self.lock();
        let index = slices.partition_point(|slice| slice.first <= number).checked_sub(1)?;
        let last = slices.get(index + 1).map_or(u64::MAX, |next| next.first - 1);
        Some((slices[index].clone(), last))
    }
}

/// Entries come in order, are never changed and never looked for in vain: no filters, no compaction, no pinned indexes,
/// since there may be thousands of slices.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(WRITE_BUFFER_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .filter_policy(FilterPolicy::disabled())
        .filter_block_pinning_policy(PinningPolicy::disabled())
        .index_block_pinning_policy(PinningPolicy::disabled())
        .compaction_strategy(std::sync::Arc::new(Fifo::new(u64::MAX, None)))
}
