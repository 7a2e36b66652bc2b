//! From encoded entries to the log: one task appends what everybody hands over, in batches.
//!
//! While one batch becomes durable the next one gathers. What waits is bounded in bytes; whoever comes then waits too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use super::publish::{Flight, PublishError, Waiters};
use crate::domain::NotificationId;
use crate::lifecycle::Lifecycle;
use crate::log::{AppendError, BoxFuture, Claim, NewEntry};
use crate::metrics::AppendFailure;

/// Bytes of entries that may wait for the committer, in KiB; beyond it senders wait, at most [`QUEUE_TIMEOUT`].
const QUEUE_KIBIBYTES: u32 = 64 * 1024;

/// The most hand-overs appended at once; each brings one entry, or those of a batch.
const MAX_HAND_OVERS: usize = 1_024;

/// How long a sender waits for room in the queue before it is told to come back.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// The handle of the task that appends; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::UnboundedSender<HandOver>,
    /// What bounds the queue: permits for KiB of entries.
    room: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// Entries for the log, in order, and whom to tell.
struct HandOver {
    payloads: SmallVec<[Bytes; 1]>,
    claim: Claim,
    answer: Answer,
    _room: OwnedSemaphorePermit,
}

enum Answer {
    /// A request waits for apply and only has to hear of failures.
    Flight { ids: SmallVec<[NotificationId; 1]>, flight: Arc<Flight> },
    /// Somebody wants the number of a single entry.
    Number(oneshot::Sender<Result<u64, AppendError>>),
}

impl Committer {
    /// A committer and what it is to append; see [`commit`].
    pub(super) fn new(lifecycle: Lifecycle) -> (Self, Queue) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_KIBIBYTES as usize));
        (Self { queue, room, lifecycle }, Queue(waiting))
    }

    /// Hands a request's entries over, whose flight hears of failures; `false` when nobody takes them any more.
    pub(super) fn hand_over(
        &self,
        payloads: SmallVec<[Bytes; 1]>,
        ids: SmallVec<[NotificationId; 1]>,
        flight: Arc<Flight>,
        room: OwnedSemaphorePermit,
    ) -> bool {
        let answer = Answer::Flight { ids, flight };
        self.queue.send(HandOver { payloads, claim: Claim::Ordinary, answer, _room: room }).is_ok()
    }

    /// Appends a single entry and returns its number.
    pub(super) async fn append(&self, entry: NewEntry) -> Result<u64, AppendError> {
        let NewEntry { payload, claim } = entry;
        let gone = || AppendError::Unavailable("the gateway is stopping".to_owned());
        let payloads = SmallVec::from_buf([payload]);
        let room = self.room_for(&payloads).await.map_err(AppendError::Unavailable)?;
        let (answer, number) = oneshot::channel();
        let hand_over = HandOver { payloads, claim, answer: Answer::Number(answer), _room: room };
        self.queue.send(hand_over).map_err(|_| gone())?;
        number.await.map_err(|_| gone())?
    }

    /// Waits for room in the queue, not for ever; says why there is none. While the log does not move nobody waits: what is not
    /// handed over is certainly not in it.
    pub(super) async fn room_for(&self, payloads: &[Bytes]) -> Result<OwnedSemaphorePermit, String> {
        if self.lifecycle.is_halted() {
            // What it would say follows from a state that others have left behind.
            return Err("the log cannot be followed".to_owned());
        }
        if self.lifecycle.is_stalled() {
            return Err("the log does not move".to_owned());
        }
        let bytes: usize = payloads.iter().map(Bytes::len).sum();
        let kibibytes = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX).min(QUEUE_KIBIBYTES);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kibibytes) {
            return Ok(room);
        }
        let waiting = Arc::clone(&self.room).acquire_many_owned(kibibytes);
        match tokio::time::timeout(QUEUE_TIMEOUT, waiting).await {
            Ok(room) => Ok(room.expect("the semaphore is never closed")),
            Err(_) => Err("too much waits for the log".to_owned()),
        }
    }
}

/// What was handed over and is not appended yet.
pub(super) struct Queue(mpsc::UnboundedReceiver<HandOver>);

/// Watches whether the log moves.
pub(super) struct Stalls {
    /// How long one append may take.
    pub(super) timeout: Duration,
    /// Who is told when one takes longer.
    pub(super) lifecycle: Lifecycle,
}

impl Stalls {
    /// Waits for an append; while it takes too long, the gateway is not ready. Sockets stay, and the append goes on: nobody can
    /// take back what a disk may still write.
    async fn watch<T>(&self, mut append: BoxFuture<'_, T>) -> T {
        let started = Instant::now();
        if let Ok(result) = tokio::time::timeout(self.timeout, &mut append).await {
            return result;
        }
        tracing::error!(stall_timeout = ?self.timeout, "the log does not move; not ready until it does");
        self.lifecycle.set_stalled(true);
        let result = append.await;
        self.lifecycle.set_stalled(false);
        tracing::info!(duration_seconds = started.elapsed().as_secs_f64(), "the log moves again");
        result
    }
}

/// Appends what waits, batch after batch. Input: the queue, fed by senders, acks and retention.
///
/// One batch at a time: several on their way were measured, and the log gains nothing by it.
pub(super) async fn commit(shared: Arc<Shared>, mut queue: Queue, stalls: Stalls) {
    let mut waiting = Vec::new();
    while queue.0.recv_many(&mut waiting, MAX_HAND_OVERS).await > 0 {
        let started = Instant::now();
        let mut entries = Vec::with_capacity(waiting.len());
        for hand_over in &mut waiting {
            let claim = hand_over.claim;
            entries.extend(hand_over.payloads.drain(..).map(|payload| NewEntry { payload, claim }));
        }
        shared.metrics.log_batch.observe(entries.len() as f64);
        let results = stalls.watch(shared.log.append(entries)).await.into_iter();
        shared.metrics.log_append.observe(started.elapsed().as_secs_f64());
        let mut results = results.inspect(|result| {
            if let Err(error) = result {
                shared.metrics.log_append_errors.of(kind_of(error)).inc();
            }
        });
        for hand_over in waiting.drain(..) {
            hand_over.answer.tell(&shared.waiters, &mut results);
        }
    }
}

fn kind_of(error: &AppendError) -> AppendFailure {
    match error {
        AppendError::TooLarge(_) => AppendFailure::TooLarge,
        AppendError::Full => AppendFailure::Full,
        AppendError::Unavailable(_) => AppendFailure::Unavailable,
        AppendError::Ambiguous(_) => AppendFailure::Ambiguous,
    }
}

impl Answer {
    /// Takes this hand-over's results from the front of `results`.
    fn tell(self, waiters: &Waiters, results: &mut impl Iterator<Item = Result<u64, AppendError>>) {
        match self {
            Self::Flight { ids, flight } => {
                for (index, (id, result)) in ids.into_iter().zip(results).enumerate() {
                    let error = match result {
                        // Apply will tell, or has told already.
                        Ok(_) => continue,
                        Err(AppendError::Ambiguous(why)) => PublishError::Unknown(why),
                        Err(error) => PublishError::Unavailable(error.to_string()),
                    };
                    if waiters.leave(id) {
                        flight.land(index, Err(error));
                    }
                }
            }
            Self::Number(answer) => {
                if let Some(result) = results.next() {
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
            }
        }
    }
}
