//! Opens a directory: takes its lock, reads what it is, looks for damage, and sets up the writing thread.
//!
//! What was lost at the end, and only there, can be accepted by asking for a new epoch. Damage with whole entries behind it
//! is refused in any case: to go on without it would be a silent hole.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};

use fjall::Database;

use super::committer::{Active, Committer, Order, SliceLimits};
use super::durable_head::{DurableHead, Reach};
use super::journal::{self, JournalError};
use super::recent::Shared;
use super::record::Damage;
use super::room::Room;
use super::slices::{Slice, Slices};
use super::{DiskOptions, OpenError, identity};
use crate::clock::Clock;
use crate::domain::Epoch;
use crate::log::LogEntry;

/// Blocks of tables that were read lately.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// One writes tables; there is nothing to compact.
const DATABASE_THREADS: usize = 1;

/// A journal is 64 MiB; completed slices are written to tables at once, so that there are never many.
const MAX_JOURNAL_BYTES: u64 = 256 * 1024 * 1024;

/// What an open log consists of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) committer: Committer,
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::Sender<Order>,
}

/// The slices of a database, checked at their borders.
struct Whole {
    slices: Vec<Slice>,
    /// Slices in front of the log's beginning, or empty ones behind its end.
    leftover: VecDeque<Slice>,
    reach: Reach,
    begun_ms: Option<u64>,
}

pub(super) fn open(options: DiskOptions, clock: Clock) -> Result<Opened, OpenError> {
    let directory = &options.directory;
    fs::create_dir_all(directory).map_err(|error| OpenError::io(directory, error))?;
    let lock = lock(directory)?;
    let found = identity::open(directory)?;
    let database_path = directory.join("entries");
    let durable_path = directory.join("durable");
    let epoch = match found {
        Some(epoch) => epoch,
        None => begin(directory, &database_path, &durable_path, &options)?,
    };
    let (mut durable, recorded) = DurableHead::open(&durable_path)
        .map_err(|error| OpenError::io(&durable_path, error))?
        .ok_or_else(|| OpenError::DamagedFile { path: durable_path.clone() })?;
    cut_torn(&database_path, recorded, options.new_epoch)?;
    let database = open_database(&database_path)?;
    let whole = check(&database, &database_path, recorded, options.new_epoch)?;
    let epoch = if options.new_epoch && found.is_some() {
        identity::replace(directory, options.fresh_epoch).map_err(|error| OpenError::io(directory, error))?;
        tracing::warn!(head = whole.reach.head, "the log goes on with a new epoch: positions from before mean nothing");
        options.fresh_epoch
    } else {
        epoch
    };
    // The database has synced its journal by now: what was found there is as durable as what was recorded.
    let recorded = durable.write(whole.reach).and_then(|()| durable.sync());
    recorded.map_err(|error| OpenError::io(&durable_path, error))?;

    let room = Room::new(directory.clone(), options.reserve_bytes, options.free_space, clock.now_ms())
        .map_err(|error| OpenError::io(directory, error))?;
    let active = whole.slices.last().expect("a checked log has a slice").clone();
    let bytes = active.keyspace.disk_space() + database.write_buffer_size();
    let active = Active { slice: active, bytes, begun_ms: whole.begun_ms };
    let shared = Arc::new(Shared::new(epoch, Slices::new(whole.slices), whole.reach.first, whole.reach.head));
    if let Ok(bytes) = database.disk_space() {
        shared.set_bytes(bytes);
    }
    let (orders, receiver) = mpsc::channel();
    let committer = Committer {
        orders: receiver,
        database,
        shared: Arc::clone(&shared),
        active,
        reach: whole.reach,
        durable,
        room,
        clock,
        limits: SliceLimits { bytes: options.slice_bytes, age_ms: options.slice_age_ms },
        flushing: VecDeque::new(),
        condemned: whole.leftover,
        unmeasured_bytes: 0,
    };
    Ok(Opened { lock, committer, shared, orders })
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| OpenError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::io(&path, error)),
    }
}

/// Makes a log of an empty directory. The identity comes last: without it nothing was ever accepted, so what an
/// interrupted beginning left may go.
fn begin(directory: &Path, database: &Path, durable: &Path, options: &DiskOptions) -> Result<Epoch, OpenError> {
    let begun = || -> io::Result<()> {
        if database.try_exists()? {
            // Entries without an identity are somebody's log that lost a file, unless the durable head is at its start.
            let untouched = durable.try_exists()?
                && DurableHead::open(durable)?.is_some_and(|(_, reach)| reach.head == 0);
            if !untouched {
                return Err(io::Error::other("there are entries, but no identity; restore it from a backup"));
            }
            fs::remove_dir_all(database)?;
        }
        DurableHead::create(durable)
    };
    begun().map_err(|error| OpenError::io(directory, error))?;
    drop(open_database(database)?);
    identity::replace(directory, options.fresh_epoch).map_err(|error| OpenError::io(directory, error))?;
    Ok(options.fresh_epoch)
}

/// Cuts a batch that was torn before it was safe, and only that.
fn cut_torn(database: &Path, recorded: Reach, new_epoch: bool) -> Result<(), OpenError> {
    let torn = journal::inspect(database).map_err(|error| match error {
        JournalError::Io(path, error) => OpenError::io(&path, error),
        JournalError::Damaged(damage) => damage.into(),
    })?;
    let Some(torn) = torn else { return Ok(()) };
    let below = torn.after.filter(|after| *after < recorded.head);
    if let Some(head) = below.filter(|_| !new_epoch) {
        return Err(OpenError::BelowDurableHead { head, durable: recorded.head });
    }
    tracing::warn!(
        after = torn.after,
        durable = recorded.head,
        "the last batch of the log was torn before it was acknowledged; it is cut"
    );
    torn.cut().map_err(|error| OpenError::io(database, error))
}

fn open_database(path: &Path) -> Result<Database, OpenError> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .worker_threads(DATABASE_THREADS)
        .max_journaling_size(MAX_JOURNAL_BYTES)
        .open()
        .map_err(|error| database_error(path, error))
}

fn database_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::InUse(path.to_owned()),
        fjall::Error::Io(error) => OpenError::io(path, error),
        other => OpenError::Database { path: path.to_owned(), reason: other.to_string() },
    }
}

/// Checks that slices follow each other without a hole, from the recorded beginning to the recorded head or beyond.
fn check(database: &Database, path: &Path, recorded: Reach, new_epoch: bool) -> Result<Whole, OpenError> {
    let slices = Slice::all(database).map_err(|error| database_error(path, error))?;
    let slices = slices.ok_or_else(|| OpenError::DamagedFile { path: path.to_owned() })?;
    let (leftover, slices): (Vec<_>, Vec<_>) =
        slices.into_iter().partition(|slice| slice.first < recorded.first);
    let mut whole = Whole {
        slices: Vec::new(),
        leftover: leftover.into(),
        reach: Reach { head: recorded.first - 1, ..recorded },
        begun_ms: None,
    };
    let mut newest: Option<LogEntry> = None;
    for slice in slices {
        let next = whole.reach.head + 1;
        match slice.borders()? {
            Some((first, last)) => {
                if slice.first != next || first.number != next {
                    return Err(Damage::missing(next).into());
                }
                whole.begun_ms = Some(first.timestamp_ms);
                whole.reach.head = last.number;
                newest = Some(last);
                whole.slices.push(slice);
            }
            // It was to take what comes next.
            None if slice.first == next => {
                whole.begun_ms = None;
                whole.slices.push(slice);
            }
            None => whole.leftover.push_back(slice),
        }
    }
    if whole.reach.head < recorded.head && !new_epoch {
        return Err(OpenError::BelowDurableHead { head: whole.reach.head, durable: recorded.head });
    }
    whole.reach.timestamp_ms = newest.map_or(0, |entry| entry.timestamp_ms).max(recorded.timestamp_ms);
    if whole.slices.is_empty() {
        let slice = Slice::create(database, whole.reach.head + 1).map_err(|error| database_error(path, error))?;
        whole.slices.push(slice);
    }
    Ok(whole)
}
