//! From a validated notification to its place in the log, and back to the sender.
//!
//! Senders hand encoded entries to the committer (see [`super::commit`]). The sender's answer comes from apply, not from the
//! append: a 202 means durable *and* in the mailboxes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashTable;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tracing::Instrument;

use super::Delivery;
use super::apply::{Effect, Receipt};
use super::publish_span;
use crate::domain::{Notification, NotificationId, Position};
use crate::log::entry::{self, EntryTooLarge, PublishTrace};
use crate::protocol::{TRACEPARENT_FIELD_BYTES, encode_body};
use crate::telemetry::publish_context;

/// How long a sender waits for its entries to be appended and applied.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The notification's name, or that of the first request with the same key.
    pub id: NotificationId,
    /// Its place in the log.
    pub position: Position,
    /// Mailboxes that took it.
    pub recipients: u32,
    /// Recipients that held a session when it came, on any node.
    pub online: u32,
    /// Recipients whose full mailbox refused it.
    pub rejected: Vec<Box<str>>,
    /// The same request was accepted before; this one changed nothing.
    pub repeated: bool,
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
    /// The idempotency key was used before, for another notification.
    #[error("this idempotency key was used before with another body; nothing was sent")]
    KeyReused,
    /// A request with this idempotency key is not answered yet.
    #[error("a request with this idempotency key is not answered yet; try again when it is")]
    KeyInFlight,
    /// Nothing was appended: the gateway is behind or its log cannot take more. Safe to retry.
    #[error("the gateway cannot take the notification now: {0}")]
    Unavailable(String),
    /// It may have been appended; nobody can tell now.
    #[error("the gateway cannot say whether it kept the notification: {0}")]
    Unknown(String),
}

/// Senders of this node that wait for apply, by the notification's name.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashTable<Waiter>>);

struct Waiter {
    id: NotificationId,
    flight: Arc<Flight>,
    index: usize,
}

/// The notifications of one request between the committer and apply.
pub(super) struct Flight {
    results: Mutex<Landed>,
    landed: Notify,
}

struct Landed {
    results: Vec<Option<Result<Receipt, PublishError>>>,
    missing: usize,
}

/// A request's places in [`Waiters`]; leaves them when dropped.
struct Waiting<'a> {
    waiters: &'a Waiters,
    flight: &'a Flight,
    ids: &'a [NotificationId],
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
        let mut results = self.publish_batch(std::slice::from_ref(notification), max_bytes).await;
        results.pop().expect("one result for one notification")
    }

    /// Publishes each item on its own, all in one go: one result an item, in the same order.
    ///
    /// Items reach the log in their order.
    pub async fn publish_batch(
        &self,
        notifications: &[Notification],
        max_bytes: usize,
    ) -> Vec<Result<Accepted, PublishError>> {
        let span = self.shared.tracing.publish();
        let context = publish_context(&span, || publish_span::offered(notifications));
        let count = u32::try_from(notifications.len()).unwrap_or(u32::MAX);
        let trace = context.map(|context| PublishTrace { context, notifications: count });
        let publishing = self.publish_traced(notifications, trace, max_bytes).instrument(span.clone());
        let results = publishing.await;
        if trace.is_some() {
            publish_span::told(&span, &results);
        }
        results
    }

    async fn publish_traced(
        &self,
        notifications: &[Notification],
        trace: Option<PublishTrace>,
        max_bytes: usize,
    ) -> Vec<Result<Accepted, PublishError>> {
        let mut results = Vec::with_capacity(notifications.len());
        let mut payloads = SmallVec::new();
        let mut ids = SmallVec::new();
        let mut keys = self.shared.in_flight.hold();
        for notification in notifications {
            if let Some(key) = &notification.idempotency
                && !keys.take(key)
            {
                results.push(Some(Err(PublishError::KeyInFlight)));
                continue;
            }
            match encode(notification, trace, max_bytes) {
                Ok(payload) => {
                    payloads.push(payload);
                    ids.push(notification.id);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut landed = self.fly(payloads, ids).await.into_iter();
        let accepted = results.into_iter().map(|result| {
            let landed = result.or_else(|| landed.next()).unwrap_or_else(|| Err(unknown("it stopped")));
            self.accepted(landed?)
        });
        accepted.collect()
    }

    /// Hands entries over and waits for their receipts: one result an entry.
    async fn fly(
        &self,
        payloads: SmallVec<[Bytes; 1]>,
        ids: SmallVec<[NotificationId; 1]>,
    ) -> Vec<Result<Receipt, PublishError>> {
        let count = ids.len();
        if count == 0 {
            return Vec::new();
        }
        let room = match self.committer.room_for(&payloads).await {
            Ok(room) => room,
            Err(why) => return vec![Err(PublishError::Unavailable(why)); count],
        };
        let waiters = &self.shared.waiters;
        let flight = Arc::new(Flight::new(count));
        waiters.insert(&ids, &flight);
        let _places = Waiting { waiters, flight: &flight, ids: &ids };
        if !self.committer.hand_over(payloads, ids.clone(), Arc::clone(&flight), room) {
            return vec![Err(PublishError::Unavailable("it is stopping".to_owned())); count];
        }
        // Whatever is still missing after this time may or may not land.
        let _ = tokio::time::timeout(APPLY_TIMEOUT, flight.landed.notified()).await;
        flight.take()
    }

    fn accepted(&self, receipt: Receipt) -> Result<Accepted, PublishError> {
        if receipt.is_refused() {
            return Err(PublishError::AllRejected(receipt.rejected));
        }
        Ok(Accepted {
            id: receipt.id,
            position: self.position(receipt.number),
            recipients: receipt.recipients,
            online: receipt.online,
            rejected: receipt.rejected,
            repeated: receipt.repeated,
        })
    }
}

/// Encodes a notification's entry, if its frame has at most `max_bytes`.
///
/// # Errors
/// [`PublishError::NotificationTooLarge`] or [`PublishError::EntryTooLarge`].
pub fn encode(
    notification: &Notification,
    trace: Option<PublishTrace>,
    max_bytes: usize,
) -> Result<Bytes, PublishError> {
    let body = encode_body(notification, trace.map(|trace| trace.context));
    // What a sender may send does not depend on whether it is recorded.
    let size = body.len() - trace.map_or(0, |_| TRACEPARENT_FIELD_BYTES);
    if size > max_bytes {
        return Err(PublishError::NotificationTooLarge { size, limit: max_bytes });
    }
    Ok(entry::encode_publish(notification, trace, &body)?)
}

fn unknown(why: &str) -> PublishError {
    PublishError::Unknown(why.to_owned())
}

impl Flight {
    fn new(count: usize) -> Self {
        let results = Landed { results: (0..count).map(|_| None).collect(), missing: count };
        Self { results: Mutex::new(results), landed: Notify::new() }
    }

    pub(super) fn land(&self, index: usize, result: Result<Receipt, PublishError>) {
        let mut landed = self.lock();
        // A request that waited too long has taken what there was and gone.
        let Some(place) = landed.results.get_mut(index) else { return };
        if place.replace(result).is_none() {
            landed.missing -= 1;
        }
        if landed.missing == 0 {
            self.landed.notify_one();
        }
    }

    /// The results; what has not landed may or may not be in the log.
    fn take(&self) -> Vec<Result<Receipt, PublishError>> {
        let results = std::mem::take(&mut self.lock().results);
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(unknown("the log takes too long"))))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Landed> {
        self.results.lock().expect("no code panics while it holds the results")
    }
}

impl Waiters {
    fn insert(&self, ids: &[NotificationId], flight: &Arc<Flight>) {
        let mut waiters = self.lock();
        for (index, id) in ids.iter().enumerate() {
            let waiter = Waiter { id: *id, flight: Arc::clone(flight), index };
            waiters.insert_unique(hash(*id), waiter, |waiter| hash(waiter.id));
        }
    }

    /// Tells the sender of `id` on this node what its entry did, if it still waits.
    pub(super) fn complete(&self, id: NotificationId, effect: Effect) {
        let Some(waiter) = self.take(id) else { return };
        let result = match effect {
            Effect::Published(receipt) => Ok(receipt),
            Effect::Repeated(first) => Ok(first.receipt()),
            Effect::KeyReused => Err(PublishError::KeyReused),
            Effect::None => Err(PublishError::Unavailable("the log has no settings yet".to_owned())),
        };
        waiter.flight.land(waiter.index, result);
    }

    /// Tells everybody who waits that nobody can tell: apply has ended.
    pub(super) fn abandon(&self, why: &str) {
        let waiting: Vec<Waiter> = self.lock().drain().collect();
        for waiter in waiting {
            waiter.flight.land(waiter.index, Err(unknown(why)));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Removes the sender of `id`; returns whether it still waited.
    pub(super) fn leave(&self, id: NotificationId) -> bool {
        self.take(id).is_some()
    }

    fn take(&self, id: NotificationId) -> Option<Waiter> {
        let mut waiters = self.lock();
        let entry = waiters.find_entry(hash(id), |waiter| waiter.id == id).ok()?;
        Some(entry.remove().0)
    }

    fn lock(&self) -> MutexGuard<'_, HashTable<Waiter>> {
        self.0.lock().expect("no code panics while it holds the waiters")
    }
}

/// The name's last eight bytes; see `outcomes.rs`.
fn hash(id: NotificationId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Whoever landed has left already.
        if self.flight.lock().missing > 0 {
            for id in self.ids {
                self.waiters.take(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_lands_after_the_request_gave_up_is_ignored() {
        let flight = Flight::new(2);
        let id = NotificationId::from_bytes([1; 16]);
        let receipt = Receipt::new(id, 1, 1, 0);
        flight.land(1, Ok(receipt.clone()));
        let taken = flight.take();
        assert!(matches!(taken[0], Err(PublishError::Unknown(_))), "nobody can tell");
        assert_eq!(taken[1], Ok(receipt.clone()));
        flight.land(0, Ok(receipt));
    }
}
