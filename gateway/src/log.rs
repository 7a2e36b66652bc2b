//! The one totally ordered sequence of entries that everything else is computed from.
//!
//! [`Log`] is the only pluggable part of the gateway: an in-memory log, an embedded one on disk, or a JetStream stream that
//! every node follows. What an entry *means* is decided in `delivery`; a log only orders, keeps and returns bytes.

#[cfg(test)]
pub(crate) mod contract;
pub mod disk;
pub mod entry;
pub mod memory;
pub mod nats;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::domain::Epoch;

pub use disk::{DiskLog, DiskOptions, OpenError};
pub use memory::MemoryLog;
pub use nats::{NatsError, NatsLog, NatsOptions};

/// The largest encoded entry, in bytes, in every kind of log: it must fit one JetStream message.
pub const MAX_ENTRY_BYTES: usize = 768 * 1024;

/// A boxed future: the trait is used as `dyn Log`, and one allocation a batch is cheap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A log of entries.
///
/// # Contract
/// The suite in `log/contract.rs` tests these sentences on every implementation, as far as they show from outside.
///
/// 1. **Numbers are dense.** Every entry has the number of the one before it plus one; the first ever has 1. A number is
///    given once and never reused within an epoch, not even after [`Log::trim`].
/// 2. **Appends are batched and ordered.** [`Log::append`] gives one result an item, in the order of the batch; the items
///    that succeed stand in the log in that order. Batches of concurrent callers never interleave badly: each keeps its own
///    order. A batch is not atomic.
/// 3. **`Ok` means kept** as [`Log::durability`] says, and the tail will show it. `Err` other than
///    [`AppendError::Ambiguous`] means that it is not in the log and never will be. `Ambiguous` means that nobody can tell;
///    whoever retries must make the entry recognisable, because it may then stand in the log twice.
/// 4. **A dropped `append` future changes nothing** about entries already handed over: they are appended or not, as if the
///    answer had been lost.
/// 5. **The tail is gap-free.** [`Log::tail`] yields every entry behind `after` exactly once, in order, first the old and
///    then the new as they come, without a seam. It may run ahead of the answer to `append`. It waits when there is nothing.
/// 6. **A slow tail costs nobody.** It neither delays appends nor loses entries, unless they are trimmed before it came to
///    them; then it ends with [`TailError::Trimmed`], which names the first entry there is, and never skips silently.
/// 7. **Reads are exact.** [`Log::read`] returns the bytes and the timestamp that the tail shows for that number, or `None`
///    for what was trimmed or does not exist yet.
/// 8. **Trimming drops a prefix.** After [`Log::trim`] the log begins behind the given number, or earlier if it keeps whole
///    slices. The numbers of what stays do not change. A log that others write to as well may append an entry of its own, which
///    says nothing ([`entry::Entry::Tick`]), or which epoch it is.
/// 9. **Timestamps come from the committer**, in milliseconds since the Unix epoch, and never step back within a log, whatever
///    the clock does: a part of the log read alone shows the same times as the whole.
/// 10. **The epoch is constant** for the life of one opened log. A log that others write to as well, and that turns out to be
///     another one, ends its tails with [`TailError::Changed`].
/// 11. **Housekeeping always fits.** A log that is short of room refuses ordinary entries with [`AppendError::Full`] and still
///     takes [`NewEntry::housekeeping`] ones, from a reserve: what they say is what makes room again. [`NewEntry::acks`] it may
///     refuse before that.
pub trait Log: Send + Sync + 'static {
    /// Appends a batch; resolves once every item is kept or refused.
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>>;

    /// Follows the log behind `after` (0: from its very first entry).
    ///
    /// # Errors
    /// [`TailError::Trimmed`] when entries behind `after` are gone already.
    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError>;

    /// Returns the entries with these numbers, in the order asked.
    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>>;

    /// The epoch and what the log holds now.
    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>>;

    /// Allows the log to drop everything up to and including `through`.
    fn trim(&self, through: u64) -> BoxFuture<'_, ()>;

    /// What an `Ok` from [`Log::append`] survives.
    fn durability(&self) -> Durability;
}

/// A place in the log that moves forward as entries come.
pub trait Tail: Send {
    /// The next entries, at least one; waits until there is one. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>>;
}

/// An entry on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The encoded entry; see [`entry`].
    pub payload: Bytes,
    /// How much room it may take from others.
    pub claim: Claim,
}

/// Which entries go first where room is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Somebody outside asked for it: the reserve is not for it.
    Ordinary,
    /// What receivers acked. It may use the reserve, but a log that fills in other ways than by one process may keep a part of that
    /// for housekeeping: what is not acked comes again.
    Acks,
    /// What moves time on, and drops what is over.
    Housekeeping,
}

/// An entry as the log returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub number: u64,
    /// When the committer took it, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The encoded entry; see [`entry`].
    pub payload: Bytes,
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Which history the numbers belong to.
    pub epoch: Epoch,
    /// The first entry there is; `head + 1` when the log is empty.
    pub first: u64,
    /// The last entry, 0 before the first ever.
    pub head: u64,
    /// What it takes, in bytes of memory or disk.
    pub bytes: u64,
    /// What it may still take, in bytes of memory or disk.
    pub free_bytes: u64,
    /// Below so many free bytes it takes housekeeping only.
    pub reserve_bytes: u64,
    /// Set when room runs short: the log asks that everything up to this number be given up and trimmed.
    pub short_of_room_until: Option<u64>,
}

/// What an accepted entry survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: it lives as long as the process.
    Process,
    /// The end of the process, and of the machine as far as the disk honours `fsync`.
    Disk,
    /// The end of this process and this machine, and as many of the servers as are not needed for a majority.
    Replicated {
        /// NATS servers that keep each entry.
        servers: usize,
    },
}

impl Durability {
    /// Whether other nodes write to the log as well.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Replicated { .. })
    }

    /// One line for the operator.
    #[must_use]
    pub fn describe(self) -> Cow<'static, str> {
        match self {
            Self::Process => "in memory: what was accepted lives as long as this process".into(),
            Self::Disk => {
                "on disk: an accepted notification survives a crash of the process and, as far as the disk honours fsync, \
                 of the machine"
                    .into()
            }
            Self::Replicated { servers: 0 | 1 } => {
                "in NATS, on one server: an accepted notification survives a crash of any gateway and of the server's \
                 process; if that machine loses power, what it had not synced is lost (sync_interval, 2 minutes by default)"
                    .into()
            }
            Self::Replicated { servers } => format!(
                "in NATS, on {servers} servers: an accepted notification survives a crash of any gateway and the loss of {} of \
                 them; if all lose power at once, what they had not synced is lost (sync_interval, 2 minutes by default)",
                (servers - 1) / 2
            )
            .into(),
        }
    }
}

impl NewEntry {
    /// An entry that somebody outside asked for.
    #[must_use]
    pub const fn ordinary(payload: Bytes) -> Self {
        Self { payload, claim: Claim::Ordinary }
    }

    /// What receivers acked.
    #[must_use]
    pub const fn acks(payload: Bytes) -> Self {
        Self { payload, claim: Claim::Acks }
    }

    /// An entry that keeps the gateway going.
    #[must_use]
    pub const fn housekeeping(payload: Bytes) -> Self {
        Self { payload, claim: Claim::Housekeeping }
    }
}

/// Why an item was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The entry is larger than [`MAX_ENTRY_BYTES`].
    #[error("the entry has {0} bytes, at most {MAX_ENTRY_BYTES} fit")]
    TooLarge(usize),
    /// There is no room until something expires or is evicted.
    #[error("the log is full")]
    Full,
    /// The log is closed or cannot be reached; the entry is not in it.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The entry may or may not be in the log.
    #[error("the log did not say whether it kept the entry: {0}")]
    Ambiguous(String),
}

/// Why a tail ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The next entry was trimmed.
    #[error("the log begins at {first} now")]
    Trimmed {
        /// The first entry there is.
        first: u64,
    },
    /// The log is closed or cannot be reached.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The log is not the one that was followed: what was computed from it has to be computed anew.
    #[error("the log is not what it was: {0}")]
    Changed(String),
}

/// Why the log could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log is unavailable: {0}")]
pub struct ReadError(pub String);
