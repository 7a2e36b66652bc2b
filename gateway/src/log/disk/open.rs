//! Opens a directory: takes its lock, reads what it is, looks for damage, and sets up the writing thread.
//!
//! What was lost at the end, and only there, can be accepted by asking for a new epoch. Damage with whole entries behind it
//! is refused in any case: to go on without it would be a silent hole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};

use fjall::Keyspace;

use super::committer::{Committer, Order};
use super::durable_head::{DurableHead, Reach};
use super::entries::{self, Entries};
use super::journal::{self, JournalError};
use super::recent::Shared;
use super::room::Room;
use super::{DiskOptions, OpenError, identity};
use crate::clock::Clock;
use crate::domain::Epoch;

/// What an open log consists of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) committer: Committer,
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::Sender<Order>,
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
    if let Some(path) = entries::missing_file(&database_path) {
        return Err(OpenError::DamagedFile { path });
    }
    cut_torn(&database_path, recorded, options.new_epoch)?;
    let opened = entries::open_database(&database_path, options.write_buffer_bytes);
    let (database, keyspace) = opened.map_err(|error| database_error(&database_path, error))?;
    let reach = check(&keyspace, &database_path, recorded, options.new_epoch)?;
    let epoch = if options.new_epoch && found.is_some() {
        identity::replace(directory, options.fresh_epoch).map_err(|error| OpenError::io(directory, error))?;
        tracing::warn!(
            head = reach.head,
            "the log goes on with a new epoch: positions from before mean nothing"
        );
        options.fresh_epoch
    } else {
        epoch
    };
    // The database has synced its journal by now: what was found there is as durable as what was recorded.
    let recorded = durable.write(reach).and_then(|()| durable.sync());
    recorded.map_err(|error| OpenError::io(&durable_path, error))?;

    let room = Room::new(directory.clone(), options.reserve_bytes, options.free_space, clock.now_ms())
        .map_err(|error| OpenError::io(directory, error))?;
    let shared =
        Arc::new(Shared::new(epoch, Entries::new(keyspace.clone(), reach.first), reach.first, reach.head));
    if let Ok(bytes) = database.disk_space() {
        shared.set_bytes(bytes);
    }
    let (orders, receiver) = mpsc::channel();
    let committer = Committer {
        orders: receiver,
        database,
        shared: Arc::clone(&shared),
        keyspace,
        reach,
        durable,
        synced: options.synced,
        room,
        clock,
        // What was trimmed before may have stayed in tables.
        trimmed: true,
        dropped_ms: 0,
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
fn begin(
    directory: &Path,
    database: &Path,
    durable: &Path,
    options: &DiskOptions,
) -> Result<Epoch, OpenError> {
    let begun = || -> io::Result<()> {
        if database.try_exists()? {
            // Entries without an identity are somebody's log that lost a file, unless the durable head is at its start.
            let untouched = durable.try_exists()?
                && DurableHead::open(durable)?.is_some_and(|(_, reach)| reach.head + 1 == options.begins_at);
            if !untouched {
                return Err(io::Error::other("there are entries, but no identity; restore it from a backup"));
            }
            fs::remove_dir_all(database)?;
        }
        DurableHead::create(durable, options.begins_at)
    };
    begun().map_err(|error| OpenError::io(directory, error))?;
    drop(
        entries::open_database(database, options.write_buffer_bytes)
            .map_err(|error| database_error(database, error))?,
    );
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

fn database_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::InUse(path.to_owned()),
        fjall::Error::Io(error) => OpenError::io(path, error),
        other => OpenError::Database { path: path.to_owned(), reason: other.to_string() },
    }
}

/// Checks the borders: from the recorded beginning to the recorded head or beyond.
fn check(keyspace: &Keyspace, path: &Path, recorded: Reach, new_epoch: bool) -> Result<Reach, OpenError> {
    let last = entries::last_number(keyspace).map_err(|error| database_error(path, error))?;
    let last = last.ok_or_else(|| OpenError::DamagedFile { path: path.to_owned() })?;
    // Of what was trimmed some may still be there.
    let head = last.max(recorded.first - 1);
    if head < recorded.head && !new_epoch {
        return Err(OpenError::BelowDurableHead { head, durable: recorded.head });
    }
    let mut timestamp_ms = recorded.timestamp_ms;
    if head >= recorded.first {
        entries::get(keyspace, recorded.first)?;
        timestamp_ms = entries::get(keyspace, head)?.timestamp_ms.max(timestamp_ms);
    }
    Ok(Reach { head, timestamp_ms, ..recorded })
}
