//! The one thread that writes: it takes all batches that wait, writes them as one, syncs once, then answers everybody.
//!
//! What happens to a group, in this order: refuse what does not fit, give numbers and a timestamp, write and sync, record the
//! durable head, show the entries to tails, answer the callers. A write or sync that fails ends the log for this process:
//! nobody can tell what reached the disk, and a second sync would only claim that it did.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::durable_head::{DurableHead, Reach};
use super::recent::Shared;
use super::room::Room;
use super::{entries, record};
use crate::clock::Clock;
use crate::log::{AppendError, LogEntry, MAX_ENTRY_BYTES, NewEntry};

/// The most bytes written at once: more would only make the first caller wait longer.
const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// How often an idle thread looks after what is left to do.
const IDLE: Duration = Duration::from_secs(1);

/// Buffers that may be on their way into tables; beyond it appends wait here. The database would wait for longer.
const MAX_FLUSHING: usize = 2;

/// How often a full queue of them is looked at.
const FLUSH_POLL: Duration = Duration::from_millis(2);

/// How often tables are dropped at most: each time a list of tables is written.
const DROP_EVERY_MS: u64 = 1_000;

/// Less than this is not worth a table, if the log is trimmed to its end.
const MIN_FLUSH_BYTES: u64 = 1024 * 1024;

/// Written bytes after which the size on disk is asked for again.
const MEASURE_AFTER_BYTES: u64 = 16 * 1024 * 1024;

pub(super) type Results = Vec<Result<u64, AppendError>>;

pub(super) enum Order {
    Append(Request),
    /// Entries of another log, which have their numbers and timestamps already.
    Copy {
        entries: Vec<LogEntry>,
        done: oneshot::Sender<()>,
    },
    Trim {
        through: u64,
        done: oneshot::Sender<()>,
    },
}

pub(super) struct Request {
    pub(super) entries: Vec<NewEntry>,
    pub(super) answer: oneshot::Sender<Results>,
    /// Its share of what may wait, given back with the answer.
    pub(super) waiting: OwnedSemaphorePermit,
}

/// All that the thread owns.
pub(super) struct Committer {
    pub(super) orders: Receiver<Order>,
    pub(super) database: Database,
    pub(super) shared: Arc<Shared>,
    pub(super) keyspace: Keyspace,
    pub(super) reach: Reach,
    pub(super) durable: DurableHead,
    /// Whether what is written is synced: a copy can be made again.
    pub(super) synced: bool,
    pub(super) room: Room,
    pub(super) clock: Clock,
    /// Something was trimmed that may still be in tables.
    pub(super) trimmed: bool,
    pub(super) dropped_ms: u64,
    pub(super) unmeasured_bytes: u64,
}

/// A group of batches on its way to the disk.
#[derive(Default)]
struct Group {
    entries: Vec<LogEntry>,
    results: Vec<Results>,
    bytes: u64,
}

/// Why writing ended.
struct Failure {
    reason: String,
    /// Whether the group may be in the log all the same.
    ambiguous: bool,
}

impl Committer {
    /// Works until every sender of orders is gone.
    pub(super) fn run(mut self) {
        // Should this thread panic, tails and callers must not wait for ever.
        let _ended = EndOnDrop(Arc::clone(&self.shared));
        loop {
            let order = match self.orders.recv_timeout(IDLE) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let done = match order {
                Some(order) => self.take(order),
                None => self.idle(),
            };
            if let Err(failure) = done.and_then(|()| self.drop_tables()) {
                self.end(failure);
                return;
            }
        }
        if let Err(error) = self.sync_durable_head() {
            tracing::warn!(%error, "the log's durable head was not synced while closing");
        }
    }

    fn take(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Append(request) => self.append(request),
            Order::Copy { entries, done } => {
                let bytes = entries.iter().map(|entry| entry.payload.len() as u64).sum();
                self.write(&mut Group { entries, bytes, ..Group::default() })?;
                // Whoever asked may be gone. An answer that never comes says that it failed.
                let _ = done.send(());
                Ok(())
            }
            Order::Trim { through, done } => {
                let trimmed = self.trim(through);
                let _ = done.send(());
                trimmed
            }
        }
    }

    /// Commits this batch and all that wait behind it.
    fn append(&mut self, first: Request) -> Result<(), Failure> {
        let mut bytes = size(&first);
        let mut requests = vec![first];
        let mut next = None;
        while bytes < MAX_GROUP_BYTES
            && let Ok(order) = self.orders.try_recv()
        {
            match order {
                Order::Append(request) => {
                    bytes += size(&request);
                    requests.push(request);
                }
                other => {
                    next = Some(other);
                    break;
                }
            }
        }
        self.commit(requests)?;
        next.map_or(Ok(()), |order| self.take(order))
    }

    fn commit(&mut self, requests: Vec<Request>) -> Result<(), Failure> {
        let (batches, answers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.entries, (request.answer, request.waiting))).unzip();
        let mut group = self.admit(batches);
        let written = self.write(&mut group);
        if let Err(failure) = &written {
            group.fail(failure);
            self.shared.end(&failure.reason);
        }
        for ((answer, _waiting), results) in answers.into_iter().zip(group.results) {
            // Whoever asked may be gone: then the answer is lost, not the entries.
            let _ = answer.send(results);
        }
        written
    }

    /// Gives numbers to what is taken and refuses the rest.
    fn admit(&mut self, batches: Vec<Vec<NewEntry>>) -> Group {
        let now_ms = self.clock.now_ms();
        self.room.refresh(now_ms);
        let timestamp_ms = self.reach.timestamp_ms.max(now_ms);
        let mut group = Group::default();
        let mut head = self.reach.head;
        for batch in batches {
            let results = batch.into_iter().map(|NewEntry { payload, claim }| {
                let bytes = payload.len() as u64 + record::OVERHEAD_BYTES;
                if payload.len() > MAX_ENTRY_BYTES {
                    return Err(AppendError::TooLarge(payload.len()));
                }
                if !self.room.take(bytes, claim) {
                    return Err(AppendError::Full);
                }
                head += 1;
                group.bytes += bytes;
                group.entries.push(LogEntry { number: head, timestamp_ms, payload });
                Ok(head)
            });
            group.results.push(results.collect());
        }
        group
    }

    fn write(&mut self, group: &mut Group) -> Result<(), Failure> {
        let Some(last) = group.entries.last() else { return Ok(()) };
        let reach = Reach { head: last.number, timestamp_ms: last.timestamp_ms, ..self.reach };
        // Nothing of the group is written yet, whatever happens here.
        self.wait_for_flushes().map_err(|failure| Failure { ambiguous: false, ..failure })?;
        // Data and length are enough to find a batch again; other metadata is not needed. What is not synced survives the
        // process all the same.
        let persist = if self.synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(persist));
        for LogEntry { number, timestamp_ms, payload } in &group.entries {
            let value = record::encode(*number, *timestamp_ms, payload);
            batch.insert(&self.keyspace, record::key(*number), value);
        }
        batch.commit().map_err(Failure::of_database)?;
        self.durable.write(reach).map_err(|error| Failure::ambiguous(&error))?;
        self.reach = reach;
        self.unmeasured_bytes += group.bytes;
        // Until it is measured, what was written is what it grew by.
        self.shared.add_bytes(group.bytes);
        self.shared.publish(std::mem::take(&mut group.entries));
        if self.unmeasured_bytes >= MEASURE_AFTER_BYTES {
            self.measure();
        }
        Ok(())
    }

    /// The database itself waits for buffers too, but a tenth of a second at a time.
    fn wait_for_flushes(&self) -> Result<(), Failure> {
        while self.keyspace.sealed_memtable_count() > MAX_FLUSHING {
            self.look_for_failure()?;
            std::thread::park_timeout(FLUSH_POLL);
        }
        Ok(())
    }

    /// Writes nothing; fails when the database failed in one of its own threads meanwhile.
    fn look_for_failure(&self) -> Result<(), Failure> {
        self.database.persist(PersistMode::Buffer).map_err(Failure::of_database)
    }

    fn trim(&mut self, through: u64) -> Result<(), Failure> {
        let first = through.min(self.reach.head) + 1;
        if first <= self.reach.first {
            return Ok(());
        }
        // Synced before anything is removed: an opened log must not miss what it no longer expects.
        let reach = Reach { first, ..self.reach };
        let recorded = self.durable.write(reach).and_then(|()| self.sync_durable_head());
        recorded.map_err(|error| Failure::ambiguous(&error))?;
        self.reach = reach;
        self.shared.trimmed(first);
        self.trimmed = true;
        if first > reach.head && self.database.write_buffer_size() >= MIN_FLUSH_BYTES {
            // Journals go only when all that is in them is in tables. If traffic stopped, nothing else would bring it there.
            self.keyspace.rotate_memtable().map_err(Failure::of_database)?;
        }
        Ok(())
    }

    /// Gives the disk back what was trimmed, as far as whole tables hold nothing else.
    fn drop_tables(&mut self) -> Result<(), Failure> {
        let now_ms = self.clock.now_ms();
        if !self.trimmed || now_ms.abs_diff(self.dropped_ms) < DROP_EVERY_MS {
            return Ok(());
        }
        self.dropped_ms = now_ms;
        if entries::drop_tables_before(&self.keyspace, self.reach.first).map_err(Failure::of_database)? {
            self.measure();
        }
        // What is still being flushed becomes a table later.
        self.trimmed = self.keyspace.sealed_memtable_count() > 0;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Failure> {
        self.look_for_failure()?;
        self.sync_durable_head().map_err(|error| Failure::ambiguous(&error))?;
        self.measure();
        Ok(())
    }

    fn sync_durable_head(&mut self) -> std::io::Result<()> {
        if self.synced { self.durable.sync() } else { Ok(()) }
    }

    fn measure(&mut self) {
        // An error here is one of asking for sizes; what writes and syncs finds its own.
        if let Ok(bytes) = self.database.disk_space() {
            self.shared.set_bytes(bytes);
            self.unmeasured_bytes = 0;
        }
    }

    /// Refuses everything that still comes, until nobody can ask any more.
    fn end(self, failure: Failure) {
        // The tails say why: whoever follows them writes the one line about it.
        self.shared.end(&failure.reason);
        while let Ok(order) = self.orders.recv() {
            if let Order::Append(request) = order {
                let refused = Err(AppendError::Unavailable(failure.reason.clone()));
                let _ = request.answer.send(vec![refused; request.entries.len()]);
            }
        }
    }
}

impl Group {
    /// Everything that was taken shares the failure; what was refused before stays refused.
    fn fail(&mut self, failure: &Failure) {
        let error = if failure.ambiguous { AppendError::Ambiguous } else { AppendError::Unavailable };
        for result in self.results.iter_mut().flatten().filter(|result| result.is_ok()) {
            *result = Err(error(failure.reason.clone()));
        }
    }
}

impl Failure {
    fn ambiguous(error: &dyn std::fmt::Display) -> Self {
        Self { reason: format!("writing to disk failed: {error}"), ambiguous: true }
    }

    fn of_database(error: fjall::Error) -> Self {
        match error {
            // It looks before it writes: this group is not in the log.
            fjall::Error::Poisoned => {
                let reason = "writing to disk failed earlier, outside of any append".to_owned();
                Self { reason, ambiguous: false }
            }
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                Self::ambiguous(&error)
            }
            other => Self::ambiguous(&other),
        }
    }
}

/// Ends the log for its readers, however the thread ended.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.0.end(if panicked { "the writing thread panicked" } else { "the log is closed" });
    }
}

fn size(request: &Request) -> usize {
    request.entries.iter().map(|entry| entry.payload.len()).sum()
}
