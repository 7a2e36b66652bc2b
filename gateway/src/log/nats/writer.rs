//! Appending: the one task that publishes, batch after batch, and tries again until it is known what became of each entry.
//!
//! The entries of a batch go out without waiting for answers. If every answer comes, in order, that is all. If not, an entry may
//! be in the stream or not, and what followed it may be kept without counting (see `fence.rs`). Then what follows the stream
//! on this node says which entries counted, and the others go out again under the same tags: whichever comes first counts,
//! in order and once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::fence::{HEADER, Tag};
use super::shared::{EndOnPanic, Shared};
use crate::log::{AppendError, MAX_ENTRY_BYTES, NewEntry};

/// How long it is tried to append a batch, from its first attempt on. Nobody waits longer for an answer, and the batch must not
/// be forgotten meanwhile by whoever follows the stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// How servers begin to say that a stream has reached its limit (`ErrMaxBytes`, `ErrMaxMsgs` in nats-server's `store.go`).
const OVER_LIMIT: &str = "maximum";

/// The most entries of one batch.
const MAX_BATCH: usize = 8 * 1024;

pub(super) type Results = Vec<Result<u64, AppendError>>;

/// A batch on its way to the stream, and whom to tell.
pub(super) struct Request {
    pub(super) entries: Vec<NewEntry>,
    pub(super) answer: oneshot::Sender<Results>,
}

/// The task's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) subject: String,
    /// Random bits: nobody else has this name.
    pub(super) name: u64,
    /// Batches so far.
    pub(super) batches: u32,
}

/// The batch that is being written, and where its entries came to count, as the stream shows.
#[derive(Default)]
pub(super) struct Own {
    writer: u64,
    batch: u32,
    /// Of its first entry, its second, and so on.
    numbers: Vec<u64>,
}

/// How far an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Never handed to the client.
    Waiting,
    /// Handed over once; it counts unless something before it is missing.
    Kept(u64),
    /// Handed over; nobody knows.
    Open,
    /// Refused, and never handed over without an answer: it is not in the stream.
    Refused,
}

/// Entries that go under one name.
struct Batch<'a> {
    writer: &'a Writer,
    number: u32,
    payloads: &'a [Bytes],
    progress: Vec<Progress>,
}

/// What became of a batch.
struct Settled {
    /// Where its first entries count.
    numbers: Vec<u64>,
    /// The entry behind them was refused, and what comes after it does not count under this name.
    is_full: bool,
    progress: Vec<Progress>,
}

impl Own {
    /// Notes a message that counts.
    pub(super) fn note(&mut self, tag: Tag, number: u64) {
        if (tag.writer, tag.batch) == (self.writer, self.batch) {
            self.numbers.push(number);
        }
    }
}

impl Writer {
    /// Appends what comes until nobody can send any more.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let _ended = EndOnPanic(Arc::clone(&self.shared));
        while let Some(first) = requests.recv().await {
            let mut waiting = vec![first];
            let mut count = waiting[0].entries.len();
            while count < MAX_BATCH
                && let Ok(request) = requests.try_recv()
            {
                count += request.entries.len();
                waiting.push(request);
            }
            let mut entries = Vec::with_capacity(count);
            let mut answers = Vec::with_capacity(waiting.len());
            for Request { entries: more, answer } in waiting {
                answers.push((more.len(), answer));
                entries.extend(more);
            }
            let mut results = self.append(&entries).await.into_iter();
            for (count, answer) in answers {
                // Whoever asked may be gone: then the answer is lost, not the entries.
                let _ = answer.send(results.by_ref().take(count).collect());
            }
        }
    }

    async fn append(&mut self, entries: &[NewEntry]) -> Results {
        let fitting = |entry: &&NewEntry| entry.payload.len() <= MAX_ENTRY_BYTES;
        let payloads: Vec<Bytes> =
            entries.iter().filter(fitting).map(|entry| entry.payload.clone()).collect();
        let deadline = Instant::now() + PATIENCE;
        let mut results = Vec::with_capacity(payloads.len());
        while results.len() < payloads.len() {
            // What follows an entry that was refused is a batch of its own. No batch has more than may be on its way at once.
            let rest = &payloads[results.len()..];
            let settled = self.write(&rest[..rest.len().min(MAX_BATCH)], deadline).await;
            let counted = settled.numbers.len();
            results.extend(settled.numbers.into_iter().map(Ok));
            let rest = settled.progress[counted..].iter();
            if settled.is_full {
                let refused = rest.take_while(|progress| **progress == Progress::Refused);
                results.extend(refused.map(|_| Err(AppendError::Full)));
            } else {
                results.extend(rest.map(|progress| Err(progress.error())));
            }
        }
        let mut results = results.into_iter();
        let result = |entry: &NewEntry| {
            let too_large = Err(AppendError::TooLarge(entry.payload.len()));
            if fitting(&entry) { results.next().unwrap_or(too_large) } else { too_large }
        };
        entries.iter().map(result).collect()
    }

    /// Writes one batch; until all of it counts, one of its entries is refused, or the deadline.
    async fn write(&mut self, payloads: &[Bytes], deadline: Instant) -> Settled {
        self.batches += 1;
        let number = self.batches;
        *self.shared.own() = Own { writer: self.name, batch: number, numbers: Vec::new() };
        let progress = vec![Progress::Waiting; payloads.len()];
        let mut batch = Batch { writer: self, number, payloads, progress };
        if batch.send(0, deadline).await
            && let Some(numbers) = batch.numbers_in_order()
        {
            return batch.settled(numbers, false);
        }
        loop {
            let numbers = batch.writer.counted(deadline).await;
            let next = numbers.len();
            let is_full = batch.progress.get(next) == Some(&Progress::Refused);
            let is_over = Instant::now() >= deadline || batch.writer.shared.changed.is_cancelled();
            if is_full || next == payloads.len() || is_over {
                return batch.settled(numbers, is_full);
            }
            tokio::time::sleep(RETRY).await;
            batch.send(next, deadline).await;
        }
    }

    /// Where the batch's entries count, once this node has seen all that the stream holds now.
    async fn counted(&self, deadline: Instant) -> Vec<u64> {
        while Instant::now() < deadline && !self.shared.changed.is_cancelled() {
            if let Ok(reach) = self.shared.stream.reach().await
                && self.shared.copied(reach.head).await.is_ok()
            {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.shared.own().numbers.clone()
    }
}

impl Batch<'_> {
    /// Sends what stands behind the first `from` entries; whether every answer came.
    async fn send(&mut self, from: usize, deadline: Instant) -> bool {
        let connection = &self.writer.shared.connection;
        // What the client takes without a connection it sends much later; and after the deadline nobody waits.
        let shared = &self.writer.shared;
        let is_another = shared.is_short.load(Ordering::Acquire) || shared.changed.is_cancelled();
        if !connection.is_up() || is_another || Instant::now() >= deadline {
            return false;
        }
        let mut answers: Vec<PublishAckFuture> = Vec::with_capacity(self.payloads.len() - from);
        for (index, payload) in self.payloads.iter().enumerate().skip(from) {
            let place = u32::try_from(index + 1).expect("a batch is bounded");
            let tag = Tag { writer: self.writer.name, batch: self.number, place };
            let message = PublishMessage::build().payload(payload.clone()).header(HEADER, tag.id());
            let handed = connection.jetstream().send_publish(self.writer.subject.clone(), message).await;
            let Ok(answer) = handed else {
                // It may have been handed over all the same.
                self.progress[index] = Progress::Open;
                break;
            };
            answers.push(answer);
        }
        let sent = answers.len();
        let answers = answers.into_iter().map(|answer| tokio::time::timeout_at(deadline, answer));
        for (progress, answered) in self.progress[from..].iter_mut().zip(join_all(answers).await) {
            *progress = match answered {
                Ok(Ok(kept)) => Progress::Kept(kept.sequence),
                Ok(Err(error)) if is_full(&error) && *progress != Progress::Open => Progress::Refused,
                _ => Progress::Open,
            };
        }
        from + sent == self.payloads.len()
    }

    /// Where the entries are, if each was handed over once, every answer came, and the numbers are in order.
    fn numbers_in_order(&self) -> Option<Vec<u64>> {
        let number =
            |progress: &Progress| if let Progress::Kept(number) = progress { Some(*number) } else { None };
        let numbers: Option<Vec<u64>> = self.progress.iter().map(number).collect();
        numbers.filter(|numbers| numbers.is_sorted_by(|left, right| left < right))
    }

    fn settled(self, numbers: Vec<u64>, is_full: bool) -> Settled {
        Settled { numbers, is_full, progress: self.progress }
    }
}

impl Progress {
    /// Why an entry does not count as far as anybody knows.
    fn error(self) -> AppendError {
        match self {
            Self::Waiting => {
                AppendError::Unavailable("NATS cannot be reached, or the stream has no leader".to_owned())
            }
            Self::Kept(_) | Self::Open | Self::Refused => {
                AppendError::Ambiguous("the stream has not shown it in time".to_owned())
            }
        }
    }
}

/// Whether the stream has no room: then the entry is not in it, and only trimming helps. A store that fails has the same code; it
/// may do better the next time.
fn is_full(error: &async_nats::jetstream::context::PublishError) -> bool {
    let source = std::error::Error::source(error);
    let told = source.and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    error.kind() == PublishErrorKind::Other
        && told.is_some_and(|told| match told.error_code() {
            ErrorCode::INSUFFICIENT_RESOURCES => true,
            ErrorCode::STREAM_STORE_FAILED => told.to_string().starts_with(OVER_LIMIT),
            _ => false,
        })
}
