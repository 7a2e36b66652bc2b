//! What readers and the writing thread share: where the log begins and ends, its newest entries, and how it ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::entries::Entries;
use crate::domain::Epoch;
use crate::log::{LogEntry, TailError};

/// The newest entries stay in memory up to this, with what they cost beside their payload.
const RECENT_BYTES: usize = 8 * 1024 * 1024;

const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The most entries a tail takes from memory at once.
const TAIL_BATCH: usize = 1_024;

/// The log as its readers see it.
pub(super) struct Shared {
    pub(super) epoch: Epoch,
    pub(super) entries: Entries,
    /// What the log takes on disk.
    pub(super) bytes: AtomicU64,
    /// Wakes tails: there is more, or it is over.
    pub(super) grown: Notify,
    recent: Mutex<Recent>,
}

struct Recent {
    first: u64,
    head: u64,
    /// The newest entries, up to `head`.
    kept: VecDeque<LogEntry>,
    kept_bytes: usize,
    /// Why nothing comes any more.
    ended: Option<String>,
}

/// What stands behind a place in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing yet.
    Nothing,
    /// The next entries.
    Entries(Vec<LogEntry>),
    /// Entries that are on disk only; the log reaches to `head`.
    OnDisk { head: u64 },
}

impl Shared {
    pub(super) fn new(epoch: Epoch, entries: Entries, first: u64, head: u64) -> Self {
        let recent = Recent { first, head, kept: VecDeque::new(), kept_bytes: 0, ended: None };
        Self { epoch, entries, bytes: AtomicU64::new(0), grown: Notify::new(), recent: Mutex::new(recent) }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no code panics while it holds the newest entries")
    }

    /// Shows committed entries, which follow the head, to tails and readers.
    pub(super) fn publish(&self, entries: Vec<LogEntry>) {
        self.lock().extend(entries);
        self.grown.notify_waiters();
    }

    /// What is before `first` is gone.
    pub(super) fn trimmed(&self, first: u64) {
        self.entries.trimmed(first);
        let mut recent = self.lock();
        recent.first = first;
        while recent.kept.front().is_some_and(|entry| entry.number < first) {
            recent.forget_oldest();
        }
        drop(recent);
        self.grown.notify_waiters();
    }

    /// Nothing is appended or shown any more; the first reason counts.
    pub(super) fn end(&self, reason: &str) {
        self.lock().ended.get_or_insert_with(|| reason.to_owned());
        self.grown.notify_waiters();
    }

    /// Why it is over, if it is.
    pub(super) fn ended(&self) -> Option<String> {
        self.lock().ended.clone()
    }

    /// The first number and the head.
    pub(super) fn reach(&self) -> (u64, u64) {
        let recent = self.lock();
        (recent.first, recent.head)
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// What stands behind `after`.
    pub(super) fn behind(&self, after: u64) -> Result<Behind, TailError> {
        let recent = self.lock();
        if let Some(reason) = &recent.ended {
            return Err(TailError::Unavailable(reason.clone()));
        }
        if after + 1 < recent.first {
            return Err(TailError::Trimmed { first: recent.first });
        }
        if after >= recent.head {
            return Ok(Behind::Nothing);
        }
        Ok(match recent.index(after + 1) {
            Some(skip) => Behind::Entries(recent.kept.range(skip..).take(TAIL_BATCH).cloned().collect()),
            None => Behind::OnDisk { head: recent.head },
        })
    }

    /// Sorts numbers into what memory has, what does not exist, and what is to be read from disk.
    pub(super) fn lookup(&self, numbers: &[u64]) -> (Vec<Option<LogEntry>>, Vec<u64>) {
        let recent = self.lock();
        let mut on_disk = Vec::new();
        let found = numbers.iter().map(|number| {
            let exists = (recent.first..=recent.head).contains(number);
            let kept = recent.index(*number).filter(|_| exists).map(|index| recent.kept[index].clone());
            if exists && kept.is_none() {
                on_disk.push(*number);
            }
            kept
        });
        (found.collect(), on_disk)
    }
}

impl Recent {
    /// Where in memory the entry with this number is.
    fn index(&self, number: u64) -> Option<usize> {
        let oldest = self.kept.front()?.number;
        usize::try_from(number.checked_sub(oldest)?).ok().filter(|index| *index < self.kept.len())
    }

    fn extend(&mut self, entries: Vec<LogEntry>) {
        for entry in entries {
            debug_assert_eq!(entry.number, self.head + 1, "numbers are dense");
            self.head = entry.number;
            self.kept_bytes += entry.payload.len() + ENTRY_OVERHEAD_BYTES;
            self.kept.push_back(entry);
        }
        while self.kept_bytes > RECENT_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(entry) = self.kept.pop_front() {
            self.kept_bytes -= entry.payload.len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}
