//! From a validated notification to its place in the log, and back to the sender.
//!
//! Senders hand encoded entries to one committer, which appends them in batches: while one batch becomes durable the next
//! one gathers. The sender's answer comes from apply, not from the append: a 202 means durable *and* in the mailboxes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Delivery, Shared};
use crate::domain::{Notification, NotificationId, Position};
use crate::lifecycle::Lifecycle;
use crate::log::AppendError;
use crate::log::entry::{self, EntryTooLarge};
use crate::protocol::encode_body;

/// Entries that may wait for the committer; beyond it senders wait, at most [`QUEUE_TIMEOUT`].
const QUEUE_ENTRIES: usize = 8_192;

/// The most entries appended at once.
const MAX_APPEND_ENTRIES: usize = 1_024;

/// How long a sender waits for room in the queue before it is told to come back.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a sender waits for its entry to be appended and applied.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The notification's name.
    pub id: NotificationId,
    /// Its place in the log.
    pub position: Position,
    /// Mailboxes that took it.
    pub recipients: u32,
    /// Recipients that held a session when it came.
    pub online: u32,
    /// Recipients whose full mailbox refused it.
    pub rejected: Vec<Box<str>>,
}

/// Why a notification was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The frame alone is larger than a notification may be.
    #[error("the notification has {size} bytes when encoded, at most {limit} are allowed")]
    NotificationTooLarge {
        /// Bytes of its encoded frame.
        size: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// Frame and recipients together do not fit an entry.
    #[error(transparent)]
    EntryTooLarge(#[from] EntryTooLarge),
    /// Every recipient's mailbox is full and refuses more.
    #[error("the mailbox of every recipient is full")]
    AllRejected(Vec<Box<str>>),
    /// Nothing was appended: the gateway is behind or its log cannot take more. Safe to retry.
    #[error("the gateway cannot take the notification now: {0}")]
    Unavailable(String),
    /// It may have been appended; nobody can tell now.
    #[error("the gateway cannot say whether it kept the notification: {0}")]
    Unknown(String),
}

/// What apply says about a published entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the log.
    pub number: u64,
    /// Mailboxes that took it.
    pub recipients: u32,
    /// Recipients that held a session when it came.
    pub online: u32,
    /// Recipients whose full mailbox refused it.
    pub rejected: Vec<Box<str>>,
}

/// Senders of this node that wait for apply, by the notification's name.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<NotificationId, oneshot::Sender<Receipt>>>);

/// A sender's place in [`Waiters`]; leaves it when dropped.
struct Waiting<'a> {
    waiters: &'a Waiters,
    id: NotificationId,
    applied: oneshot::Receiver<Receipt>,
}

/// The handle of the task that appends; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Append>,
}

struct Append {
    payload: Bytes,
    appended: oneshot::Sender<Result<u64, AppendError>>,
}

impl Delivery {
    /// Encodes the notification, appends it and waits until it is durable and applied here.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing of a failed one is ever delivered, except for [`PublishError::Unknown`].
    pub async fn publish(
        &self,
        notification: &Notification,
        max_bytes: usize,
    ) -> Result<Accepted, PublishError> {
        let payload = encode(notification, max_bytes)?;
        let waiting = self.shared.waiters.wait_for(notification.id);
        let applied = self.committer.append_and_apply(payload, waiting).await?;
        if applied.recipients == 0 && !applied.rejected.is_empty() {
            return Err(PublishError::AllRejected(applied.rejected));
        }
        Ok(Accepted {
            id: notification.id,
            position: self.position(applied.number),
            recipients: applied.recipients,
            online: applied.online,
            rejected: applied.rejected,
        })
    }

    /// Publishes each item on its own, all in one go: one result an item, in the same order.
    ///
    /// Items reach the log in their order.
    pub async fn publish_batch(
        &self,
        notifications: &[Notification],
        max_bytes: usize,
    ) -> Vec<Result<Accepted, PublishError>> {
        // Polled in order, so that every item is queued before the next; the waiting overlaps.
        futures_util::future::join_all(notifications.iter().map(|item| self.publish(item, max_bytes))).await
    }
}

fn encode(notification: &Notification, max_bytes: usize) -> Result<Bytes, PublishError> {
    let body = encode_body(notification);
    if body.len() > max_bytes {
        return Err(PublishError::NotificationTooLarge { size: body.len(), limit: max_bytes });
    }
    Ok(entry::encode_publish(notification, &body)?)
}

impl Committer {
    /// Starts the task that appends for everybody on this node.
    pub(super) fn start(shared: &Arc<Shared>, lifecycle: &Lifecycle) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_ENTRIES);
        lifecycle.spawn_essential("commit", commit(Arc::clone(shared), waiting));
        Self { queue }
    }

    /// Appends an entry that no sender waits for and returns its number.
    pub(super) async fn append(&self, payload: Bytes) -> Result<u64, AppendError> {
        let (appended, number) = oneshot::channel();
        let gone = |_| AppendError::Unavailable("the gateway is stopping".to_owned());
        self.queue.send(Append { payload, appended }).await.map_err(|_| gone(()))?;
        number.await.map_err(|_| gone(()))?
    }

    async fn append_and_apply(&self, payload: Bytes, waiting: Waiting<'_>) -> Result<Receipt, PublishError> {
        let stopping = || PublishError::Unavailable("it is stopping".to_owned());
        let room = match self.queue.try_reserve() {
            Ok(room) => room,
            Err(mpsc::error::TrySendError::Closed(())) => return Err(stopping()),
            Err(mpsc::error::TrySendError::Full(())) => {
                tokio::time::timeout(QUEUE_TIMEOUT, self.queue.reserve())
                    .await
                    .map_err(|_| {
                        PublishError::Unavailable("too many notifications wait for the log".to_owned())
                    })?
                    .map_err(|_| stopping())?
            }
        };
        let (appended, mut number) = oneshot::channel();
        room.send(Append { payload, appended });
        let mut waiting = waiting;
        // The tail may show the entry before the answer to the append comes; whichever is first decides.
        let outcome = async {
            tokio::select! {
                biased;
                applied = &mut waiting.applied => applied.map_err(|_| unknown("it stopped")),
                answer = &mut number => match answer {
                    Ok(Ok(_)) => (&mut waiting.applied).await.map_err(|_| unknown("it stopped")),
                    Ok(Err(AppendError::Ambiguous(why))) => Err(PublishError::Unknown(why)),
                    Ok(Err(error)) => Err(PublishError::Unavailable(error.to_string())),
                    Err(_) => Err(unknown("it stopped")),
                },
            }
        };
        tokio::time::timeout(APPLY_TIMEOUT, outcome)
            .await
            .unwrap_or_else(|_| Err(unknown("the log takes too long")))
    }
}

fn unknown(why: &str) -> PublishError {
    PublishError::Unknown(why.to_owned())
}

/// Appends what waits, batch after batch. Input: the queue, fed by senders and by retention.
async fn commit(shared: Arc<Shared>, mut queue: mpsc::Receiver<Append>) {
    let mut waiting = Vec::with_capacity(MAX_APPEND_ENTRIES);
    while queue.recv_many(&mut waiting, MAX_APPEND_ENTRIES).await > 0 {
        let started = Instant::now();
        let (payloads, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|append| (append.payload, append.appended)).unzip();
        shared.metrics.log_batch.observe(payloads.len() as f64);
        let results = shared.log.append(payloads).await;
        shared.metrics.log_append.observe(started.elapsed().as_secs_f64());
        for (answer, result) in answers.into_iter().zip(results) {
            // A sender that hung up does not need the answer any more.
            let _ = answer.send(result);
        }
    }
}

impl Waiters {
    fn wait_for(&self, id: NotificationId) -> Waiting<'_> {
        let (sender, applied) = oneshot::channel();
        self.lock().insert(id, sender);
        Waiting { waiters: self, id, applied }
    }

    /// Tells the sender on this node, if it still waits.
    pub(super) fn complete(&self, id: NotificationId, receipt: Receipt) {
        let waiting = self.lock().remove(&id);
        if let Some(sender) = waiting {
            let _ = sender.send(receipt);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<NotificationId, oneshot::Sender<Receipt>>> {
        self.0.lock().expect("no code panics while it holds the waiters")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiters.lock().remove(&self.id);
    }
}
