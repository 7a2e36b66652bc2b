//! `POST /v1/notifications` and its batch.

use std::time::Duration;

use poem::http::{HeaderMap, StatusCode};
use poem_openapi::param::{Header, Query};
use poem_openapi::{ApiResponse, OpenApi};

use super::Http;
use super::accept::{Refusal, RequestKey, invalid, target_of};
use super::outcomes::DEFAULT_RECIPIENTS;
use super::schema::outcomes::Outcomes;
use super::schema::sending::{AcceptedAnswer, BatchItem, NotificationRequest, WaitedAnswer};
use crate::auth::Caller;
use crate::delivery::{Accepted, PublishError};
use crate::domain::{Notification, NotificationId};
use crate::edge::answer::{
    FORBIDDEN, REQUEST_TIMEOUT, TOO_MANY_REQUESTS, UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE,
};
use crate::edge::body::BatchItem as ReceivedItem;
use crate::edge::parameters::{KeyParam, Tag, WaitParam};
use crate::edge::{Answer, BatchBody, JsonAnswer, JsonBody, MaySend, Problem, Refusals};
use crate::limits::Denied;
use crate::metrics::{SendResult, Target};
use crate::telemetry::Throttle;

/// How long a sender that waits for acks waits if it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The operations for senders.
pub struct SendApi {
    http: Http,
    failures: Throttle,
}

/// The answer to one notification.
#[derive(ApiResponse)]
enum SendResponse {
    /// With `wait=acked`: accepted, and every recipient's state is final or the time is over.
    #[oai(status = 200)]
    Waited(
        JsonAnswer<WaitedAnswer>,
        /// `true` if the same request was accepted before, under the same `Idempotency-Key`; this one changed nothing.
        #[oai(header = "Idempotent-Replayed")]
        Option<bool>,
    ),
    /// Accepted: it is in the log and in the mailboxes, and its recipients' sessions were woken.
    #[oai(status = 202)]
    Accepted(
        JsonAnswer<AcceptedAnswer>,
        /// `true` if the same request was accepted before, under the same `Idempotency-Key`; this one changed nothing.
        #[oai(header = "Idempotent-Replayed")]
        Option<bool>,
    ),
}

/// The answer to a batch.
#[derive(ApiResponse)]
enum BatchResponse {
    /// One status an item, in the order of the request. Items succeed and fail on their own.
    #[oai(status = 202)]
    Accepted(JsonAnswer<Vec<BatchItem>>),
}

struct Sending;

impl Refusals for Sending {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "Malformed; `field` names the part that is wrong. Nothing is delivered."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (408, REQUEST_TIMEOUT),
        (
            409,
            "A request with this `Idempotency-Key` is not answered yet: try again after `Retry-After` seconds.",
        ),
        (
            413,
            "The body or the notification is too large, or the notification with all its recipients is. Nothing is delivered.",
        ),
        (415, UNSUPPORTED_MEDIA_TYPE),
        (422, "The `Idempotency-Key` was used before with another body. Nothing is delivered."),
        (429, TOO_MANY_REQUESTS),
        (
            503,
            "The gateway is stopping, behind, out of memory to spare, or its log cannot take more: try again after `Retry-After` seconds. If the \
             problem says `\"delivered\":\"unknown\"` the notification may have been accepted; with the same \
             `Idempotency-Key` it is safe to try again all the same.",
        ),
        (
            507,
            "The mailbox of every recipient is full and the overflow policy is `reject`. Nothing is delivered.",
        ),
    ];
}

struct SendingMany;

impl Refusals for SendingMany {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The body is no JSON array, or the `Idempotency-Key` breaks a rule. Nothing is delivered."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (408, REQUEST_TIMEOUT),
        (
            413,
            "The body is too large, or has more than 1,000 items, or more than this sender may send at once. Nothing is delivered.",
        ),
        (415, UNSUPPORTED_MEDIA_TYPE),
        (429, TOO_MANY_REQUESTS),
        (
            503,
            "The gateway is stopping or out of memory to spare: try again after `Retry-After` seconds. Nothing is delivered.",
        ),
    ];
}

#[OpenApi(tag = "Tag::Sending")]
impl SendApi {
    /// Send a notification
    ///
    /// Pushes the notification at once to every session its recipients hold and keeps it for those who are away, until
    /// it is acked, it expires, or a full mailbox has to make room. The answer comes when it is in the log and in the
    /// mailboxes.
    ///
    /// An `Idempotency-Key` makes it safe to try again: for 24 hours a second request with the key and the same body sends
    /// nothing and is answered as the first was, with `Idempotent-Replayed: true`. A request that was refused used no key.
    #[oai(path = "/v1/notifications", method = "post", operation_id = "sendNotification")]
    async fn send(
        &self,
        caller: MaySend,
        headers: &HeaderMap,
        /// A name for this request, of 1 to 255 visible ASCII characters; a random UUID serves well.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<KeyParam>>,
        /// `acked`: answer with 200 as soon as the notification is final for every recipient (nearly always: acked), or when
        /// `timeout_ms` is over. Not for the topic `*`, whose notifications nobody acks.
        wait: Query<Option<WaitParam>>,
        /// How long to wait at most, in milliseconds: 0 to 30,000. Without it: 5,000. Means nothing without `wait`.
        #[oai(validator(maximum(value = "30000")))]
        timeout_ms: Query<Option<u32>>,
        mut notification: JsonBody<NotificationRequest>,
    ) -> Answer<SendResponse, Sending> {
        send_as(&caller.0, &mut notification.value);
        let target = target_of(&notification.value);
        let timeout =
            timeout_ms.0.map_or(DEFAULT_WAIT, |timeout_ms| Duration::from_millis(timeout_ms.into()));
        let wait = wait.0.map(|WaitParam| timeout);
        let sent = self.send_one(&caller.0, headers, key.0, notification, (target, wait)).await;
        let counted = sent.as_ref().map_or_else(|refusal| refusal.result, result_of);
        self.http.metrics.count_send(target, counted);
        let accepted = match sent {
            Ok(accepted) => accepted,
            Err(refusal) => return Answer::from(Err(Box::new(refusal.problem))),
        };
        let replayed = accepted.repeated.then_some(true);
        let id = accepted.id;
        let answer = AcceptedAnswer::new(accepted);
        Answer::from(Ok(match wait {
            None => SendResponse::Accepted(JsonAnswer(answer), replayed),
            Some(timeout) => {
                let outcomes = self.outcomes_within(id, timeout).await;
                SendResponse::Waited(JsonAnswer(WaitedAnswer { accepted: answer, outcomes }), replayed)
            }
        }))
    }

    /// Send many notifications
    ///
    /// Up to 1,000 notifications in one request, each for its own recipients: some eight times cheaper than one request
    /// each. Not atomic: every item has a status of its own, in the same order. An item's `Idempotency-Key` is the
    /// request's, a slash, and the item's index: `<key>/0`, `<key>/1` and so on.
    #[oai(path = "/v1/notifications/batch", method = "post", operation_id = "sendNotificationBatch")]
    async fn send_batch(
        &self,
        caller: MaySend,
        headers: &HeaderMap,
        /// A name for this request, of 1 to 255 visible ASCII characters; a random UUID serves well.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<KeyParam>>,
        notifications: BatchBody<NotificationRequest>,
    ) -> Answer<BatchResponse, SendingMany> {
        let items = notifications.len();
        let welcome = self.welcome_batch(&caller.0, headers, key.0, items);
        Answer::from(match welcome {
            Ok(key) => {
                let items = self.send_items(&caller.0, key, notifications).await;
                Ok(BatchResponse::Accepted(JsonAnswer(items)))
            }
            Err(refusal) => {
                self.http.metrics.count_sends(Target::Unknown, refusal.result, items);
                Err(Box::new(refusal.problem))
            }
        })
    }
}

impl SendApi {
    pub(super) fn new(http: Http) -> Self {
        Self { http, failures: Throttle::default() }
    }

    async fn send_one(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        key: Option<KeyParam>,
        request: JsonBody<NotificationRequest>,
        (target, wait): (Target, Option<Duration>),
    ) -> Result<Accepted, Box<Refusal>> {
        self.welcome()?;
        if wait.is_some() && target == Target::Everybody {
            return Err(invalid("wait", "nobody acks what goes to everybody who is connected"));
        }
        self.take_sends(caller, 1)?;
        let key = RequestKey::of(caller, headers, key)?.map(|key| key.of_request(&request.text));
        let now_us = self.http.delivery.clock().now_us();
        let notification = self.http.limits.accept(request.value, key, now_us)?;
        let published = self.http.delivery.publish(&notification, self.http.limits.max_bytes).await;
        Ok(self.observe(target, published)?)
    }

    fn welcome_batch(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        key: Option<KeyParam>,
        items: usize,
    ) -> Result<Option<RequestKey>, Box<Refusal>> {
        let max_batch = self.http.limits.max_batch;
        if items > max_batch {
            let detail = format!("a batch has at most {max_batch} items, this one has {items}");
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail);
            return Err(Box::new(Refusal { result: SendResult::TooLarge, problem }));
        }
        self.welcome()?;
        self.take_sends(caller, items)?;
        RequestKey::of(caller, headers, key)
    }

    async fn send_items(
        &self,
        caller: &Caller,
        key: Option<RequestKey>,
        notifications: BatchBody<NotificationRequest>,
    ) -> Vec<BatchItem> {
        let mut valid = Vec::with_capacity(notifications.len());
        let mut refused = Vec::with_capacity(notifications.len());
        for (index, item) in notifications.into_items().enumerate() {
            let (target, accepted) = self.accept_item(caller, key.as_ref(), index, item);
            refused.push((target, accepted.map(|notification| valid.push(notification)).err()));
        }
        let published = self.http.delivery.publish_batch(&valid, self.http.limits.max_bytes).await;
        let mut published = published.into_iter();
        let answers = refused.into_iter().map(|(target, refusal)| {
            let result = match refusal {
                Some(refusal) => Err(refusal),
                None => {
                    let published = published.next().expect("one result for each valid item");
                    self.observe(target, published).map_err(Box::<Refusal>::from)
                }
            };
            let counted = result.as_ref().map_or_else(|refusal| refusal.result, result_of);
            self.http.metrics.count_send(target, counted);
            BatchItem::new(result.map_err(|refusal| refusal.problem))
        });
        answers.collect()
    }

    fn accept_item(
        &self,
        caller: &Caller,
        key: Option<&RequestKey>,
        index: usize,
        item: ReceivedItem<NotificationRequest>,
    ) -> (Target, Result<Notification, Box<Refusal>>) {
        match item.value {
            Ok(mut request) => {
                send_as(caller, &mut request);
                let target = target_of(&request);
                let key = key.map(|key| key.of_item(index, item.text.get().as_bytes()));
                let now_us = self.http.delivery.clock().now_us();
                (target, self.http.limits.accept(request, key, now_us))
            }
            Err(error) => {
                let problem = Problem::from_error(&error.into());
                (Target::Unknown, Err(Box::new(Refusal { result: SendResult::Invalid, problem })))
            }
        }
    }

    /// Notes how many sessions' users a new notification reached, or that the gateway failed it.
    fn observe(
        &self,
        target: Target,
        published: Result<Accepted, PublishError>,
    ) -> Result<Accepted, PublishError> {
        if let Ok(accepted) = &published
            && !accepted.repeated
        {
            self.http.metrics.fanout_recipients.of(target).observe(f64::from(accepted.online));
        }
        if let Err(error @ (PublishError::Unavailable(_) | PublishError::Unknown(_))) = &published
            && let Some(held_back) = self.failures.pass(self.http.delivery.clock().now_ms())
        {
            tracing::warn!(%error, held_back, "a notification was not taken");
        }
        published
    }

    /// What became of an accepted notification once it is final or the time is over; a stopping gateway waits for nobody.
    async fn outcomes_within(&self, id: NotificationId, timeout: Duration) -> Option<Outcomes> {
        let delivery = &self.http.delivery;
        tokio::select! {
            () = delivery.until_final(id, timeout) => {}
            () = self.http.lifecycle.stopping() => {}
        }
        let report = delivery.outcome(id).await;
        Some(Outcomes::new(&report.ok()?, 0, DEFAULT_RECIPIENTS as usize))
    }

    /// Whether the gateway takes sends at all.
    fn welcome(&self) -> Result<(), Box<Refusal>> {
        if self.http.lifecycle.is_ready() {
            return Ok(());
        }
        let state = if self.http.lifecycle.is_stopping() { "stopping" } else { "not ready" };
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the gateway is {state}"));
        Err(Box::new(Refusal { result: SendResult::Overloaded, problem }))
    }

    /// Takes `count` notifications from what the caller may send.
    fn take_sends(&self, caller: &Caller, count: usize) -> Result<(), Box<Refusal>> {
        self.http.authenticator.take_sends(caller, count).map_err(|denied| {
            let problem = match denied {
                Denied::Wait(wait) => {
                    let detail = "more than this sender may send; try again after `Retry-After` seconds";
                    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
                }
                Denied::Never(burst) => {
                    let detail =
                        format!("this sender may send {burst} notifications at once, these are {count}");
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
                }
            };
            Box::new(Refusal { result: SendResult::RateLimited, problem })
        })
    }
}

/// A user sends under its own name, whatever the request says.
fn send_as(caller: &Caller, request: &mut NotificationRequest) {
    if let Some(user) = caller.sends_as() {
        request.from = Some(user.as_str().to_owned());
    }
}

fn result_of(accepted: &Accepted) -> SendResult {
    if accepted.repeated { SendResult::Repeated } else { SendResult::Accepted }
}
