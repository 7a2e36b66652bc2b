//! A log in memory to which happens what a test wants.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::memory;
use crate::log::{
    AppendError, BoxFuture, Durability, Log, LogEntry, LogState, MemoryLog, NewEntry, ReadError, Tail,
    TailError,
};

/// The log.
pub(super) struct StagedLog {
    inner: MemoryLog,
    durability: Durability,
    /// How appends fail.
    with: AppendError,
    /// Whether they do.
    pub(super) fails: AtomicBool,
    /// Cancelled, it is another log than it was.
    pub(super) changed: CancellationToken,
}

struct StagedTail {
    inner: Box<dyn Tail>,
    changed: CancellationToken,
}

impl StagedLog {
    /// One whose appends fail like this when told to.
    pub(super) fn failing(with: AppendError) -> Self {
        let inner = memory(1 << 20);
        let (fails, changed) = (AtomicBool::new(false), CancellationToken::new());
        Self { durability: inner.durability(), inner, with, fails, changed }
    }

    /// One that others may write to as well.
    pub(super) fn shared() -> Self {
        Self { durability: Durability::Replicated { servers: 1 }, ..Self::failing(AppendError::Full) }
    }
}

impl Log for StagedLog {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
        if self.fails.load(Ordering::SeqCst) {
            let results = batch.iter().map(|_| Err(self.with.clone())).collect();
            return Box::pin(std::future::ready(results));
        }
        self.inner.append(batch)
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        Ok(Box::new(StagedTail { inner: self.inner.tail(after)?, changed: self.changed.clone() }))
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        self.inner.read(numbers)
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        self.inner.state()
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        self.inner.trim(through)
    }

    fn durability(&self) -> Durability {
        self.durability
    }
}

impl Tail for StagedTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
        Box::pin(async {
            tokio::select! {
                biased;
                () = self.changed.cancelled() => Err(TailError::Changed("on purpose".to_owned())),
                entries = self.inner.next() => entries,
            }
        })
    }
}
