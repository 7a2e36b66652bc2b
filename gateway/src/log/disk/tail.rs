//! Follows the log: the newest entries from memory, older ones in chunks from disk, one chunk read ahead.
//!
//! A chunk is read by a thread for blocking work while the one before it is being applied. Everything read from disk was
//! verified on the way: rebuilding the state after a start is what verifies the log.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};

use super::entries::{ChunkLimits, ScanError};
use super::recent::{Behind, Shared};
use super::record::Damage;
use crate::log::{BoxFuture, LogEntry, ReadError, Tail, TailError};

/// Large enough to read a disk at full speed, small enough to be applied while the next one is read.
const CHUNK: ChunkLimits = ChunkLimits { entries: 8_192, bytes: 2 * 1024 * 1024 };

type Chunk = Result<Vec<LogEntry>, ScanError>;

pub(super) struct DiskTail {
    shared: Arc<Shared>,
    after: u64,
    /// The chunk that is being read: it begins behind `after`.
    ahead: Option<JoinHandle<Chunk>>,
}

impl DiskTail {
    pub(super) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self { shared, after, ahead: None }
    }

    fn read_ahead(&mut self, head: u64) {
        let (shared, first) = (Arc::clone(&self.shared), self.after + 1);
        self.ahead = Some(tokio::task::spawn_blocking(move || shared.entries.scan(first, head, CHUNK)));
    }

    /// Moves behind these entries and begins to read what follows, unless memory has it.
    fn advance(&mut self, entries: Vec<LogEntry>) -> Vec<LogEntry> {
        self.after = entries.last().map_or(self.after, |last| last.number);
        if let Ok(Behind::OnDisk { head }) = self.shared.behind(self.after) {
            self.read_ahead(head);
        }
        entries
    }

    async fn wait(&mut self) -> Result<Vec<LogEntry>, TailError> {
        loop {
            if let Some(ahead) = &mut self.ahead {
                // Awaited in place: when this future is dropped, the next one finds the chunk here.
                let read = ahead.await;
                self.ahead = None;
                match flatten(read, self.after + 1) {
                    Ok(entries) => return Ok(self.advance(entries)),
                    // Trimmed or closed meanwhile: what holds now is told below.
                    Err(ScanError::Trimmed | ScanError::Closed) => {}
                    Err(ScanError::Damaged(damage)) => {
                        return Err(TailError::Unavailable(damage.to_string()));
                    }
                }
            }
            let shared = Arc::clone(&self.shared);
            // Registered before looking: an append in between is not missed.
            let grown = shared.grown.notified();
            match shared.behind(self.after)? {
                Behind::Entries(entries) => return Ok(self.advance(entries)),
                Behind::OnDisk { head } => self.read_ahead(head),
                Behind::Nothing => grown.await,
            }
        }
    }
}

impl Tail for DiskTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
        Box::pin(self.wait())
    }
}

/// Reads single entries, from memory where it has them.
pub(super) async fn read(shared: Arc<Shared>, numbers: Vec<u64>) -> Result<Vec<Option<LogEntry>>, ReadError> {
    if let Some(reason) = shared.ended() {
        return Err(ReadError(reason));
    }
    let (mut found, on_disk) = shared.lookup(&numbers);
    if on_disk.is_empty() {
        return Ok(found);
    }
    let read = tokio::task::spawn_blocking({
        let on_disk = on_disk.clone();
        move || shared.entries.get(&on_disk)
    });
    let read = flatten(read.await, on_disk[0]).map_err(|error| match error {
        ScanError::Damaged(damage) => ReadError(damage.to_string()),
        ScanError::Closed | ScanError::Trimmed => ReadError("it was closed".to_owned()),
    })?;
    let mut read = on_disk.into_iter().zip(read).peekable();
    for (place, number) in found.iter_mut().zip(numbers) {
        if let Some((_, entry)) = read.next_if(|(wanted, _)| *wanted == number) {
            *place = entry;
        }
    }
    Ok(found)
}

/// A read that panicked met something that the database did not expect: that is damage as well.
fn flatten<T>(read: Result<Result<T, ScanError>, JoinError>, number: u64) -> Result<T, ScanError> {
    read.unwrap_or_else(|error| {
        if error.is_cancelled() {
            return Err(ScanError::Closed);
        }
        Err(ScanError::Damaged(Damage::new(number, format!("or one behind it cannot be read: {error}"))))
    })
}
