//! `POST /v1/notifications` and its batch.

use std::collections::HashSet;

use poem::http::{HeaderMap, StatusCode};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::Http;
use super::schema::{AcceptedAnswer, BatchItem, NotificationRequest};
use crate::delivery::{Accepted, PublishError};
use crate::domain::{Notification, NotificationId, UserId};
use crate::edge::parameters::Tag;
use crate::edge::{BatchBody, InvalidBody, JsonAnswer, JsonBody, Problem};
use crate::metrics::{SendResult, Target};

/// When a sender shall try again after a 503, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Limits of what may be sent.
#[derive(Debug, Clone, Copy)]
pub struct SendLimits {
    /// Users one notification may name.
    pub max_recipients: usize,
    /// Notifications a batch may carry.
    pub max_batch: usize,
    /// Bytes of an encoded frame.
    pub max_bytes: usize,
    /// Time to live when the sender does not say, in seconds.
    pub default_ttl_seconds: u32,
    /// The longest time to live, in seconds.
    pub max_ttl_seconds: u32,
}

/// The operations for senders.
pub struct SendApi {
    pub(super) http: Http,
}

/// The answer to one notification.
#[derive(ApiResponse)]
enum SendResponse {
    /// Accepted: it is in the log and in the mailboxes, and its recipients' sessions were woken.
    #[oai(status = 202)]
    Accepted(JsonAnswer<AcceptedAnswer>),
    /// Malformed; `field` names the part that is wrong. Nothing is delivered.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The page's origin may not use the gateway, or the `Host` is none of this machine (open mode).
    #[oai(status = 403, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    Forbidden(Json<Problem>),
    /// The body took too long to arrive. Nothing is delivered.
    #[oai(status = 408, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    RequestTimeout(Json<Problem>),
    /// The body or the notification is too large, or the notification with all its recipients is. Nothing is delivered.
    #[oai(status = 413, content_type = "application/problem+json")]
    TooLarge(Json<Problem>),
    /// The body is not `application/json`. Nothing is delivered.
    #[oai(status = 415, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    UnsupportedMediaType(Json<Problem>),
    /// The gateway is stopping, behind, or its log cannot take more: try again after `Retry-After` seconds. If the problem
    /// says `"delivered":"unknown"` the notification may have been accepted.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Json<Problem>,
        /// Seconds.
        #[oai(header = "Retry-After")]
        u32,
    ),
    /// The mailbox of every recipient is full and the overflow policy is `reject`. Nothing is delivered.
    #[oai(status = 507, content_type = "application/problem+json")]
    InsufficientStorage(Json<Problem>),
}

/// The answer to a batch.
#[derive(ApiResponse)]
enum BatchResponse {
    /// One status an item, in the order of the request. Items succeed and fail on their own.
    #[oai(status = 202)]
    Accepted(JsonAnswer<Vec<BatchItem>>),
    /// The body is no JSON array. Nothing is delivered.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The page's origin may not use the gateway, or the `Host` is none of this machine (open mode).
    #[oai(status = 403, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    Forbidden(Json<Problem>),
    /// The body took too long to arrive. Nothing is delivered.
    #[oai(status = 408, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    RequestTimeout(Json<Problem>),
    /// The body is too large, or has more than 1,000 items. Nothing is delivered.
    #[oai(status = 413, content_type = "application/problem+json")]
    TooLarge(Json<Problem>),
    /// The body is not `application/json`. Nothing is delivered.
    #[oai(status = 415, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    UnsupportedMediaType(Json<Problem>),
    /// The gateway is stopping: try again after `Retry-After` seconds. Nothing is delivered.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Json<Problem>,
        /// Seconds.
        #[oai(header = "Retry-After")]
        u32,
    ),
}

/// A refusal and how it is counted.
struct Refusal {
    result: SendResult,
    problem: Problem,
}

#[OpenApi(tag = "Tag::Sending")]
impl SendApi {
    /// Send a notification
    ///
    /// Pushes the notification at once to every session its recipients hold and keeps it for those who are away, until
    /// it expires or a full mailbox has to make room. The answer comes when it is in the log and in the mailboxes.
    ///
    /// `Idempotency-Key` is not supported yet: a request that carries one is refused with 400 rather than accepted twice.
    #[oai(path = "/v1/notifications", method = "post", operation_id = "sendNotification")]
    async fn send(&self, headers: &HeaderMap, notification: JsonBody<NotificationRequest>) -> SendResponse {
        let target = target_of(&notification.0);
        match self.send_one(headers, notification.0).await {
            Ok(accepted) => {
                self.http.metrics.count_send(target, SendResult::Accepted);
                SendResponse::Accepted(JsonAnswer(accepted))
            }
            Err(refusal) => {
                self.http.metrics.count_send(target, refusal.result);
                let problem = Json(refusal.problem);
                match refusal.result {
                    SendResult::Accepted | SendResult::Invalid => SendResponse::BadRequest(problem),
                    SendResult::TooLarge => SendResponse::TooLarge(problem),
                    SendResult::Rejected => SendResponse::InsufficientStorage(problem),
                    SendResult::Repeated | SendResult::Conflict => SendResponse::BadRequest(problem),
                    SendResult::Overloaded => SendResponse::Unavailable(problem, RETRY_AFTER_SECONDS),
                }
            }
        }
    }

    /// Send many notifications
    ///
    /// Up to 1,000 notifications in one request, each for its own recipients: some eight times cheaper than one request
    /// each. Not atomic: every item has a status of its own, in the same order.
    #[oai(path = "/v1/notifications/batch", method = "post", operation_id = "sendNotificationBatch")]
    async fn send_batch(
        &self,
        headers: &HeaderMap,
        notifications: BatchBody<NotificationRequest>,
    ) -> BatchResponse {
        let max_batch = self.http.limits.max_batch;
        if notifications.len() > max_batch {
            self.http.metrics.count_send(Target::Unknown, SendResult::TooLarge);
            let detail =
                format!("a batch has at most {max_batch} items, this one has {}", notifications.len());
            return BatchResponse::TooLarge(Json(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)));
        }
        if let Err(refusal) = self.welcome(headers) {
            self.http.metrics.count_send(Target::Unknown, refusal.result);
            let problem = Json(refusal.problem);
            return match refusal.result {
                SendResult::Overloaded => BatchResponse::Unavailable(problem, RETRY_AFTER_SECONDS),
                _ => BatchResponse::BadRequest(problem),
            };
        }
        BatchResponse::Accepted(JsonAnswer(self.send_items(notifications).await))
    }

    async fn send_one(
        &self,
        headers: &HeaderMap,
        request: NotificationRequest,
    ) -> Result<AcceptedAnswer, Box<Refusal>> {
        self.welcome(headers)?;
        let notification = self.accept(request)?;
        let published = self.http.delivery.publish(&notification, self.http.limits.max_bytes).await;
        self.answer(&notification, published)
    }
}

impl SendApi {
    async fn send_items(&self, notifications: BatchBody<NotificationRequest>) -> Vec<BatchItem> {
        let mut valid = Vec::with_capacity(notifications.len());
        let mut refused = Vec::with_capacity(notifications.len());
        for item in notifications.into_items() {
            let (target, accepted) = self.accept_item(item);
            refused.push((target, accepted.map(|notification| valid.push(notification)).err()));
        }
        let published = self.http.delivery.publish_batch(&valid, self.http.limits.max_bytes).await;
        let mut published = valid.iter().zip(published);
        let answers = refused.into_iter().map(|(target, refusal)| {
            let result = match refusal {
                Some(refusal) => Err(refusal),
                None => {
                    let (notification, result) = published.next().expect("one result for each valid item");
                    self.answer(notification, result)
                }
            };
            let counted = result.as_ref().map_or_else(|refusal| refusal.result, |_| SendResult::Accepted);
            self.http.metrics.count_send(target, counted);
            BatchItem::new(result.map_err(|refusal| refusal.problem))
        });
        answers.collect()
    }

    fn answer(
        &self,
        notification: &Notification,
        result: Result<Accepted, PublishError>,
    ) -> Result<AcceptedAnswer, Box<Refusal>> {
        let accepted = result?;
        let target = Target::User;
        self.http.metrics.fanout_recipients.of(target).observe(f64::from(accepted.online));
        Ok(AcceptedAnswer::new(accepted))
    }

    fn accept_item(
        &self,
        item: Result<NotificationRequest, InvalidBody>,
    ) -> (Target, Result<Notification, Box<Refusal>>) {
        match item {
            Ok(request) => (target_of(&request), self.accept(request)),
            Err(error) => {
                let problem = Problem::from_error(&error.into());
                (Target::Unknown, Err(Box::new(Refusal { result: SendResult::Invalid, problem })))
            }
        }
    }

    /// Whether the gateway takes sends at all, from such a request.
    fn welcome(&self, headers: &HeaderMap) -> Result<(), Box<Refusal>> {
        if !self.http.lifecycle.is_ready() {
            let state = if self.http.lifecycle.is_stopping() { "stopping" } else { "not ready" };
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the gateway is {state}"));
            return Err(Box::new(Refusal { result: SendResult::Overloaded, problem }));
        }
        if headers.contains_key("idempotency-key") {
            return Err(invalid(
                "Idempotency-Key",
                "idempotency keys are not supported yet; nothing was sent",
            ));
        }
        Ok(())
    }

    /// Checks every rule and gives the notification its name and time.
    fn accept(&self, request: NotificationRequest) -> Result<Notification, Box<Refusal>> {
        let limits = &self.http.limits;
        let names = match (request.to, request.topic) {
            (Some(_), Some(_)) => return Err(invalid("to", "name either `to` or `topic`, not both")),
            (None, None) => return Err(invalid("to", "a notification needs recipients: name them in `to`")),
            (None, Some(_)) => {
                return Err(invalid("topic", "topics are not supported yet: name the recipients in `to`"));
            }
            (Some(names), None) => names,
        };
        let ttl_seconds = request.ttl_seconds.unwrap_or(limits.default_ttl_seconds);
        if ttl_seconds == 0 || ttl_seconds > limits.max_ttl_seconds {
            let detail = format!("the time to live is 1 to {} seconds", limits.max_ttl_seconds);
            return Err(invalid("ttl_seconds", detail));
        }
        Ok(Notification {
            id: NotificationId::from_uuid(Uuid::now_v7()),
            accepted_at_us: self.http.delivery.clock().now_us(),
            target: crate::domain::Target::Users(recipients(names, limits.max_recipients)?),
            collapse_key: None,
            idempotency: None,
            from: request.from,
            title: request.title,
            body: request.body,
            data: request.data,
            ttl_seconds,
            priority: request.priority.map(Into::into).unwrap_or_default(),
        })
    }
}

/// The recipients as users, each once, in the sender's order.
fn recipients(names: Vec<String>, max_recipients: usize) -> Result<Vec<UserId>, Box<Refusal>> {
    if names.is_empty() {
        return Err(invalid("to", "a notification needs recipients: `to` is empty"));
    }
    if names.len() > max_recipients {
        let detail =
            format!("a notification has at most {max_recipients} recipients, this one has {}", names.len());
        return Err(invalid("to", detail));
    }
    let mut users = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        users.push(UserId::parse(name).map_err(|error| invalid(format!("to[{index}]"), error.to_string()))?);
    }
    if users.len() > 1 {
        let mut seen = HashSet::with_capacity(users.len());
        let first: Vec<bool> = names.iter().map(|name| seen.insert(name.as_str())).collect();
        let mut first = first.into_iter();
        users.retain(|_| first.next().expect("one for each name"));
    }
    Ok(users)
}

fn target_of(request: &NotificationRequest) -> Target {
    match request.to.as_ref().map(Vec::len) {
        Some(1) => Target::User,
        Some(2..) => Target::Users,
        _ => Target::Unknown,
    }
}

fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Box<Refusal> {
    Box::new(Refusal { result: SendResult::Invalid, problem: Problem::invalid(field, detail) })
}

impl From<PublishError> for Box<Refusal> {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        let (result, status) = match error {
            PublishError::NotificationTooLarge { .. } | PublishError::EntryTooLarge(_) => {
                (SendResult::TooLarge, StatusCode::PAYLOAD_TOO_LARGE)
            }
            PublishError::KeyReused => (SendResult::Conflict, StatusCode::UNPROCESSABLE_ENTITY),
            PublishError::KeyInFlight => (SendResult::Conflict, StatusCode::CONFLICT),
            PublishError::AllRejected(_) => (SendResult::Rejected, StatusCode::INSUFFICIENT_STORAGE),
            PublishError::Unavailable(_) | PublishError::Unknown(_) => {
                (SendResult::Overloaded, StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let problem = Problem::new(status, detail);
        let unknown = matches!(error, PublishError::Unknown(_));
        Self::new(Refusal { result, problem: if unknown { problem.delivery_unknown() } else { problem } })
    }
}
