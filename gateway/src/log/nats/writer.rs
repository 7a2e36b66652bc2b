//! Appending: the one task that publishes, batch after batch, and tries again until it is known what became of each entry.
//!
//! The entries of a batch go out without waiting for answers. An answer that does not come, or comes from where the stream has
//! no leader, leaves an entry open; it is sent again under the same id, which the servers drop if they have it. An entry that
//! was kept although one before it was lost does not count (see `fence.rs`): its place in the stream is before that of its
//! predecessor. It, and what follows it, goes out again as a new batch.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::connection::Connection;
use super::fence::Tag;
use crate::log::{AppendError, MAX_ENTRY_BYTES, NewEntry};

/// How long it is tried to append a batch, from its first attempt on. Nobody waits longer for an answer, and the batch must not
/// be forgotten meanwhile by whoever follows the stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(100);

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
    pub(super) connection: Connection,
    pub(super) subject: String,
    /// Random bits for the name of a batch.
    pub(super) random: fn() -> u64,
}

/// How far an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// Not handed to the client yet.
    Waiting,
    /// Handed over; nobody knows.
    Open(String),
    /// Kept at this number, if that is where it counts.
    Kept(u64),
    /// Refused for good.
    Refused(AppendError),
}

struct Item {
    payload: Bytes,
    progress: Progress,
    /// Its place in its batch.
    place: u32,
}

/// Entries that follow each other under one name.
struct Batch<'a> {
    writer: &'a Writer,
    name: u64,
    items: Vec<Item>,
    /// Items before this one are settled.
    settled: usize,
    /// The number of the last one that counts.
    last: u64,
}

impl Writer {
    /// Appends what comes until nobody can send any more.
    pub(super) async fn run(self, mut requests: mpsc::UnboundedReceiver<Request>) {
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
            let answers: Vec<_> = waiting
                .into_iter()
                .map(|Request { entries: more, answer }| {
                    let count = more.len();
                    entries.extend(more);
                    (count, answer)
                })
                .collect();
            let mut results = self.append(entries).await.into_iter();
            for (count, answer) in answers {
                // Whoever asked may be gone: then the answer is lost, not the entries.
                let _ = answer.send(results.by_ref().take(count).collect());
            }
        }
    }

    async fn append(&self, entries: Vec<NewEntry>) -> Results {
        let items = (1..).zip(entries).map(|(place, NewEntry { payload, .. })| {
            let too_large = payload.len() > MAX_ENTRY_BYTES;
            let progress = if too_large {
                Progress::Refused(AppendError::TooLarge(payload.len()))
            } else {
                Progress::Waiting
            };
            Item { payload, progress, place }
        });
        let mut batch = Batch { writer: self, name: 0, items: items.collect(), settled: 0, last: 0 };
        batch.rename();
        let deadline = Instant::now() + PATIENCE;
        while !batch.settle() {
            if Instant::now() >= deadline {
                break;
            }
            if !batch.send(deadline).await {
                tokio::time::sleep(RETRY).await;
            }
        }
        batch.results()
    }
}

impl Batch<'_> {
    /// What is not settled becomes a batch of its own.
    fn rename(&mut self) {
        self.name = (self.writer.random)();
        let unsettled = self.items[self.settled..].iter_mut();
        let going = unsettled.filter(|item| !matches!(item.progress, Progress::Refused(_)));
        for (place, item) in (1..).zip(going) {
            item.place = place;
            item.progress = Progress::Waiting;
        }
    }

    /// Goes as far as it is known what became of the entries; whether that is the end.
    fn settle(&mut self) -> bool {
        while let Some(item) = self.items.get(self.settled) {
            match item.progress {
                Progress::Kept(number) if number > self.last => self.last = number,
                Progress::Kept(_) => {
                    // It stands before the one that it has to follow, and does not count there.
                    self.rename();
                    return false;
                }
                Progress::Refused(AppendError::TooLarge(_)) => {}
                Progress::Refused(_) => {
                    // What came behind it does not count without it.
                    self.settled += 1;
                    self.rename();
                    continue;
                }
                Progress::Waiting | Progress::Open(_) => return false,
            }
            self.settled += 1;
        }
        true
    }

    /// Sends what is open, up to the first one that was kept already; `false` when it has to be tried again.
    async fn send(&mut self, deadline: Instant) -> bool {
        // What the client takes without a connection it sends much later.
        if !self.writer.connection.is_up() {
            return false;
        }
        let name = self.name;
        let mut on_their_way: Vec<(usize, PublishAckFuture)> = Vec::new();
        let mut whole = true;
        let unsettled = self.items.iter_mut().enumerate().skip(self.settled);
        for (index, item) in unsettled {
            match item.progress {
                Progress::Refused(_) => continue,
                Progress::Kept(_) => break,
                Progress::Waiting | Progress::Open(_) => {}
            }
            let tag = Tag { batch: name, place: item.place };
            let message = PublishMessage::build().payload(item.payload.clone()).message_id(tag.id());
            let subject = self.writer.subject.clone();
            // From here on it may be kept, whatever is said.
            item.progress = Progress::Open("nobody answered".to_owned());
            match self.writer.connection.jetstream().send_publish(subject, message).await {
                Ok(answer) => on_their_way.push((index, answer)),
                Err(error) => {
                    item.progress = Progress::Open(error.to_string());
                    whole = false;
                    break;
                }
            }
        }
        let (indexes, answers): (Vec<_>, Vec<_>) = on_their_way.into_iter().unzip();
        let answers = answers.into_iter().map(|answer| tokio::time::timeout_at(deadline, answer));
        for (index, answered) in indexes.into_iter().zip(join_all(answers).await) {
            let item = &mut self.items[index];
            match answered {
                Ok(Ok(kept)) => item.progress = Progress::Kept(kept.sequence),
                Ok(Err(error)) if is_full(&error) => item.progress = Progress::Refused(AppendError::Full),
                Ok(Err(error)) => {
                    item.progress = Progress::Open(error.to_string());
                    whole = false;
                }
                Err(_) => whole = false,
            }
        }
        whole
    }

    fn results(self) -> Results {
        let settled = self.settled;
        let result = |(index, item): (usize, Item)| match item.progress {
            Progress::Kept(number) if index < settled => Ok(number),
            Progress::Refused(error) => Err(error),
            Progress::Waiting => Err(AppendError::Unavailable(
                "NATS cannot be reached, or the stream has no leader".to_owned(),
            )),
            Progress::Kept(_) => {
                Err(AppendError::Ambiguous("what came before it is not known to be kept".to_owned()))
            }
            Progress::Open(why) => Err(AppendError::Ambiguous(why)),
        };
        self.items.into_iter().enumerate().map(result).collect()
    }
}

/// Whether the stream has no room: then the entry is not in it.
fn is_full(error: &async_nats::jetstream::context::PublishError) -> bool {
    let source = std::error::Error::source(error);
    let told = source.and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    error.kind() == PublishErrorKind::Other
        && told.is_some_and(|told| {
            matches!(told.error_code(), ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES)
        })
}
