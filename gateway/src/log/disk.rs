//! The embedded durable log, on the `fjall` database: what it accepted survives the process, and the machine as far as the
//! disk honours `fsync`.
//!
//! A directory belongs to one open log:
//!
//! | file | holds |
//! |---|---|
//! | `lock` | nothing; locked by the process that has the log open |
//! | `identity` | the format of this directory and the epoch (see `disk/identity.rs`) |
//! | `durable` | how far the log is known to reach (see `disk/durable_head.rs`) |
//! | `entries/` | the database: its journals, and tables (see `disk/entries.rs`) |
//!
//! One thread writes and syncs (`disk/committer.rs`); readers follow in `disk/tail.rs`. Opening looks at the journals, the
//! durable head, and the first and the last entry; that every one between is there and whole is verified by whoever reads
//! it, which the gateway does from the first to the last while it rebuilds its state. Nothing is ever made shorter silently.

mod committer;
mod durable_head;
mod entries;
mod identity;
mod journal;
mod open;
mod recent;
mod record;
mod room;
mod tail;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use self::committer::{Order, Request, Results};
use self::recent::Shared;
use super::{
    AppendError, BoxFuture, Durability, Log, LogEntry, LogState, NewEntry, ReadError, Tail, TailError,
};
use crate::clock::Clock;
use crate::domain::Epoch;

pub use journal::{JournalError, Torn, inspect as inspect_journals};
pub use record::{Damage, decode as decode_record, encode as encode_record};
pub use room::{FreeSpace, system_free_space};

/// Free space that ordinary entries leave alone, unless the operator says otherwise.
pub const DEFAULT_RESERVE_BYTES: u64 = 256 * 1024 * 1024;

/// What is gathered in memory before it becomes a table, unless the caller says otherwise.
pub const DEFAULT_WRITE_BUFFER_BYTES: u64 = 32 * 1024 * 1024;

/// How much may wait for the disk, in units of [`WAITING_UNIT_BYTES`]; whoever comes then waits before it is handed over.
const MAX_WAITING_UNITS: u32 = 32 * 1024;

const WAITING_UNIT_BYTES: usize = 1_024;

/// What an entry counts while it waits, beside its payload: this bounds their number too.
const WAITING_ENTRY_BYTES: usize = 128;

/// How to open a log.
#[derive(Clone)]
pub struct DiskOptions {
    /// Where it lives; created when it is not there.
    pub directory: PathBuf,
    /// Free space below which ordinary entries are refused.
    pub reserve_bytes: u64,
    /// Declares every position from before meaningless, and accepts a log that lost its end.
    pub new_epoch: bool,
    /// The epoch of a new log, or the one that `new_epoch` asks for: random bits.
    pub fresh_epoch: Epoch,
    /// What is gathered in memory before it becomes a table: the grain in which trimming gives the disk back. It is fixed
    /// when a log begins.
    pub write_buffer_bytes: u64,
    /// How to ask for free space.
    pub free_space: FreeSpace,
    /// Whether what is written is synced. A copy of another log need not be: it can be made again.
    pub synced: bool,
    /// The number of the first entry of a new log.
    pub begins_at: u64,
}

/// The log in a directory.
pub struct DiskLog {
    shared: Arc<Shared>,
    /// `None` once it is being closed.
    orders: Option<mpsc::Sender<Order>>,
    waiting: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    /// How to ask for free space, where, and how much of it is kept.
    room: (FreeSpace, PathBuf, u64),
    free_bytes: AtomicU64,
    /// Unlocked when it is closed, after everything else.
    _lock: File,
}

/// Why a log did not open; each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("the log in {0} is in use by another process")]
    InUse(PathBuf),
    /// It was written by a later version.
    #[error(
        "the log has format {found}, this build knows formats up to {known}; run the version that wrote it"
    )]
    NewerFormat {
        /// The format in the directory.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
    /// An entry that others stand behind, or that was safe on disk, is not as it was written.
    #[error("{0}; to go on without it would lose it silently: restore the directory from a backup")]
    DamagedEntry(#[from] Damage),
    /// One of the files that everything else hangs on is missing or not as it was written.
    #[error("{path} is damaged or missing; restore the directory from a backup")]
    DamagedFile {
        /// Which one.
        path: PathBuf,
    },
    /// The end of the log is gone.
    #[error(
        "the log ends at entry {head}, but {durable} were safe on disk: its end was lost; restore the directory from a \
         backup, or open it with a new epoch, which keeps what is there and tells every client of a gap"
    )]
    BelowDurableHead {
        /// The last entry there is.
        head: u64,
        /// The last entry that was there.
        durable: u64,
    },
    /// The database does not open.
    #[error("the database in {path} does not open: {reason}")]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The file system refuses.
    #[error("{path}: {error}")]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl DiskOptions {
    /// The usual options for a log in this directory.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, fresh_epoch: Epoch) -> Self {
        Self {
            directory: directory.into(),
            reserve_bytes: DEFAULT_RESERVE_BYTES,
            new_epoch: false,
            fresh_epoch,
            write_buffer_bytes: DEFAULT_WRITE_BUFFER_BYTES,
            free_space: system_free_space(),
            synced: true,
            begins_at: 1,
        }
    }
}

impl OpenError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }
}

impl DiskLog {
    /// Opens the log in a directory, or begins one there.
    ///
    /// # Errors
    /// [`OpenError`]; nothing that could be read before was removed then.
    pub fn open(options: DiskOptions, clock: Clock) -> Result<Self, OpenError> {
        let room = (options.free_space.clone(), options.directory.clone(), options.reserve_bytes);
        let open::Opened { lock, committer, shared, orders } = open::open(options, clock)?;
        let thread = std::thread::Builder::new().name("log".to_owned());
        let thread =
            thread.spawn(|| committer.run()).expect("the system lets a starting process have a thread");
        Ok(Self {
            shared,
            orders: Some(orders),
            waiting: Arc::new(Semaphore::new(MAX_WAITING_UNITS as usize)),
            thread: Some(thread),
            room,
            free_bytes: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// Takes entries of another log, which follow this one's head and have timestamps that do not step back; resolves once
    /// they are written and shown, `false` when the log has ended.
    pub(super) async fn copy(&self, entries: Vec<LogEntry>) -> bool {
        let (done, copied) = oneshot::channel();
        self.order(Order::Copy { entries, done }).is_ok() && copied.await.is_ok()
    }

    /// The first number, and the head.
    pub(super) fn reach(&self) -> (u64, u64) {
        self.shared.reach()
    }

    /// Resolves once the entry with this number is there, or the log has ended.
    pub(super) async fn reached(&self, number: u64) {
        loop {
            // Registered before looking: an entry in between is not missed.
            let grown = self.shared.grown.notified();
            if self.shared.reach().1 >= number || self.shared.ended().is_some() {
                return;
            }
            grown.await;
        }
    }

    /// Whose positions its numbers are.
    pub(super) fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Why nothing comes any more, if so.
    pub(super) fn ended(&self) -> Option<String> {
        self.shared.ended()
    }

    async fn hand_over(&self, entries: Vec<NewEntry>) -> Results {
        let count = entries.len();
        let refused = |reason: String| vec![Err(AppendError::Unavailable(reason)); count];
        let units = waiting_units(&entries);
        let waiting = Arc::clone(&self.waiting).acquire_many_owned(units).await;
        let waiting = waiting.expect("the semaphore is never closed");
        if let Some(reason) = self.shared.ended() {
            return refused(reason);
        }
        let (answer, answered) = oneshot::channel();
        let order = Order::Append(Request { entries, answer, waiting });
        if self.order(order).is_err() {
            return refused("the writing thread is gone".to_owned());
        }
        let lost = || Err(AppendError::Ambiguous("the writing thread ended".to_owned()));
        answered.await.unwrap_or_else(|_| vec![lost(); count])
    }

    /// Free space as last heard: the committer warns when the file system does not say.
    pub(super) fn free_bytes(&self) -> u64 {
        let (free_space, directory, _) = &self.room;
        if let Ok(free_bytes) = free_space(directory) {
            self.free_bytes.store(free_bytes, Ordering::Relaxed);
        }
        self.free_bytes.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) -> Result<(), mpsc::SendError<Order>> {
        self.orders.as_ref().expect("only closing takes it").send(order)
    }
}

impl Log for DiskLog {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Results> {
        Box::pin(self.hand_over(batch))
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        self.shared.behind(after)?;
        Ok(Box::new(tail::DiskTail::new(Arc::clone(&self.shared), after)))
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        Box::pin(tail::read(Arc::clone(&self.shared), numbers))
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        let (first, head) = self.shared.reach();
        let state = LogState {
            epoch: self.shared.epoch,
            first,
            head,
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            free_bytes: self.free_bytes(),
            reserve_bytes: self.room.2,
            // Nothing is given up to make room: what is refused meanwhile was never accepted.
            short_of_room_until: None,
        };
        let answer = self.shared.ended().map_or(Ok(state), |reason| Err(ReadError(reason)));
        Box::pin(std::future::ready(answer))
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        let (done, trimmed) = oneshot::channel();
        let ordered = self.order(Order::Trim { through, done });
        Box::pin(async move {
            if ordered.is_ok() {
                // An error says that the log ended meanwhile, which its tails say as well.
                let _ = trimmed.await;
            }
        })
    }

    fn durability(&self) -> Durability {
        Durability::Disk
    }
}

impl Drop for DiskLog {
    /// Writes what was handed over, ends the tails and gives the directory free.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It has said why in the log's state if it panicked.
            let _ = thread.join();
        }
        self.shared.entries.close();
    }
}

fn waiting_units(entries: &[NewEntry]) -> u32 {
    let bytes: usize = entries.iter().map(|entry| entry.payload.len() + WAITING_ENTRY_BYTES).sum();
    let units = u32::try_from(bytes.div_ceil(WAITING_UNIT_BYTES)).unwrap_or(u32::MAX);
    // A batch larger than what may wait waits alone.
    units.min(MAX_WAITING_UNITS)
}
