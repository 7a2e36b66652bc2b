//! What the parts of an open log share: the stream, the copy, and what is known of both.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::doubt::Doubt;
use super::stream::{Stream, Told};
use super::writer::Own;
use crate::domain::Epoch;
use crate::log::{DiskLog, ReadError, TailError, entry};

/// How long somebody waits for this node's copy to have what the stream has.
const COPY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the parts of an open log share.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) stream: Stream,
    pub(super) name: String,
    pub(super) copy: Arc<DiskLog>,
    pub(super) epoch: Epoch,
    pub(super) known: Mutex<Known>,
    pub(super) doubt: Mutex<Doubt>,
    pub(super) copy_directory: PathBuf,
    /// What this node is writing.
    pub(super) own: Mutex<Own>,
    /// The stream should be compared with the copy.
    pub(super) doubted: Notify,
    /// It seems to end before what it once held: until that is clear nothing is appended, whose numbers might mean something else.
    pub(super) is_short: AtomicBool,
    /// Why the state has to be computed anew.
    pub(super) changed: CancellationToken,
    pub(super) why: Mutex<String>,
}

/// What is known of the stream without asking.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Where it ended when it was asked the last time.
    pub(super) head: u64,
    pub(super) bytes: u64,
    /// The epoch entry in force.
    pub(super) told: Option<Told>,
}

impl Shared {
    pub(super) fn known(&self) -> Known {
        *self.known_mut()
    }

    pub(super) fn known_mut(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no code panics while it holds what is known")
    }

    pub(super) fn doubt(&self) -> MutexGuard<'_, Doubt> {
        self.doubt.lock().expect("no code panics while it holds what is doubted")
    }

    pub(super) fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().expect("no code panics while it holds what is written")
    }

    /// Waits for the copy, not for ever.
    pub(super) async fn copied(&self, number: u64) -> Result<(), ReadError> {
        let copied = tokio::time::timeout(COPY_TIMEOUT, self.copy.reached(number)).await;
        copied.map_err(|_| ReadError("this node is behind".to_owned()))
    }

    /// What an operator has to know when the copy cannot be written.
    pub(super) fn copy_failed(&self, why: &str) -> String {
        let (directory, free_bytes) = (self.copy_directory.display(), self.copy.free_bytes());
        format!(
            "the copy of the stream in {directory} cannot be written, {free_bytes} bytes are free there: {why}"
        )
    }

    /// Whether an epoch entry begins another epoch than that in force, which is the last one that there was at the start.
    pub(super) fn is_news(&self, number: u64, payload: &bytes::Bytes) -> bool {
        let told = self.known().told;
        number > told.map_or(0, |told| told.number)
            && entry::epoch_bits(payload).is_some_and(|bits| Some(bits) != told.map(|told| told.bits))
    }

    /// Ends the tails.
    pub(super) fn change(&self, why: &str) {
        *self.why.lock().expect("no code panics while it holds the reason") = why.to_owned();
        self.changed.cancel();
    }

    pub(super) fn why(&self) -> TailError {
        TailError::Changed(self.why.lock().expect("no code panics while it holds the reason").clone())
    }
}

/// A task that is gone must not be waited for.
pub(super) struct EndOnPanic(pub(super) Arc<Shared>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.change("one of its tasks panicked");
        }
    }
}
