//! From a request to a notification: every rule that a sender can break, and what makes a repetition recognisable.

use std::collections::HashSet;

use poem::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::schema::sending::NotificationRequest;
use crate::auth::Caller;
use crate::delivery::PublishError;
use crate::domain::{
    Fingerprint, IdempotencyKey, InvalidTopic, Notification, NotificationId, Target as Recipients, TopicName,
    UserId,
};
use crate::edge::Problem;
use crate::edge::parameters::KeyParam;
use crate::metrics::{SendResult, Target};

/// The longest collapse key, in bytes of UTF-8.
const MAX_COLLAPSE_KEY_BYTES: usize = 256;

/// The header that names a request.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

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

/// A refusal and how it is counted.
pub(super) struct Refusal {
    pub(super) result: SendResult,
    pub(super) problem: Problem,
}

/// A request's `Idempotency-Key`, and whose it is.
pub(super) struct RequestKey {
    scope: Vec<u8>,
    key: String,
}

impl RequestKey {
    /// The key of a request, if it has one. `parsed` is what the manual's parameter made of it.
    pub(super) fn of(
        caller: &Caller,
        headers: &HeaderMap,
        parsed: Option<KeyParam>,
    ) -> Result<Option<Self>, Box<Refusal>> {
        // Bytes beyond ASCII never become a parameter: a key must not be overlooked, the request would be sent twice.
        let sent = headers.get_all(IDEMPOTENCY_KEY).iter().count();
        match parsed {
            Some(KeyParam(key)) if sent == 1 => Ok(Some(Self { scope: caller.idempotency_scope(), key })),
            None if sent == 0 => Ok(None),
            _ if sent > 1 => Err(invalid(IDEMPOTENCY_KEY, "a request has one key, this one has several")),
            _ => Err(invalid(IDEMPOTENCY_KEY, "expected visible ASCII characters")),
        }
    }

    /// What makes a repetition of this request recognisable.
    pub(super) fn of_request(&self, body: &[u8]) -> IdempotencyKey {
        self.fingerprint(&self.key, body)
    }

    /// What makes a repetition of one item of this batch recognisable.
    pub(super) fn of_item(&self, index: usize, item: &[u8]) -> IdempotencyKey {
        self.fingerprint(&format!("{}/{index}", self.key), item)
    }

    fn fingerprint(&self, key: &str, body: &[u8]) -> IdempotencyKey {
        IdempotencyKey {
            key: Fingerprint::of(&[&self.scope, key.as_bytes()]),
            body: Fingerprint::of(&[body]),
        }
    }
}

impl SendLimits {
    /// Checks every rule and gives the notification its name; `now_us` is the time of acceptance.
    pub(super) fn accept(
        &self,
        request: NotificationRequest,
        idempotency: Option<IdempotencyKey>,
        now_us: u64,
    ) -> Result<Notification, Box<Refusal>> {
        let target = match (request.to, request.topic) {
            (Some(_), Some(_)) => return Err(invalid("to", "name either `to` or `topic`, not both")),
            (None, None) => {
                let detail = "a notification needs recipients: name them in `to`, or a `topic`";
                return Err(invalid("to", detail));
            }
            (None, Some(topic)) => topic_of(&topic)?,
            (Some(names), None) => Recipients::Users(self.recipients(names)?),
        };
        let ttl_seconds = request.ttl_seconds.unwrap_or(self.default_ttl_seconds);
        if ttl_seconds > self.max_ttl_seconds {
            let detail = format!("the time to live is 0 to {} seconds", self.max_ttl_seconds);
            return Err(invalid("ttl_seconds", detail));
        }
        Ok(Notification {
            id: NotificationId::from_uuid(Uuid::now_v7()),
            accepted_at_us: now_us,
            target,
            from: request.from,
            title: request.title,
            body: request.body,
            data: request.data,
            ttl_seconds,
            collapse_key: request.collapse_key.as_deref().map(collapse_key).transpose()?,
            priority: request.priority.map(Into::into).unwrap_or_default(),
            idempotency,
        })
    }

    /// The recipients as users, each once, in the sender's order.
    fn recipients(&self, names: Vec<String>) -> Result<Vec<UserId>, Box<Refusal>> {
        let max_recipients = self.max_recipients;
        if names.is_empty() {
            return Err(invalid("to", "a notification needs recipients: `to` is empty"));
        }
        if names.len() > max_recipients {
            let detail = format!(
                "a notification has at most {max_recipients} recipients, this one has {}: subscribe them to a topic",
                names.len()
            );
            return Err(invalid("to", detail));
        }
        let mut users = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let user = UserId::parse(name);
            users.push(user.map_err(|error| invalid(format!("to[{index}]"), error.to_string()))?);
        }
        if users.len() > 1 {
            let mut seen = HashSet::with_capacity(users.len());
            let first: Vec<bool> = names.iter().map(|name| seen.insert(name.as_str())).collect();
            let mut first = first.into_iter();
            users.retain(|_| first.next().expect("one for each name"));
        }
        Ok(users)
    }
}

fn topic_of(name: &str) -> Result<Recipients, Box<Refusal>> {
    match TopicName::parse(name) {
        Ok(topic) => Ok(Recipients::Topic(topic)),
        Err(InvalidTopic::Everybody) => Ok(Recipients::Everybody),
        Err(InvalidTopic::Name(error)) => Err(invalid("topic", error.to_string())),
    }
}

fn collapse_key(key: &str) -> Result<Fingerprint, Box<Refusal>> {
    if (1..=MAX_COLLAPSE_KEY_BYTES).contains(&key.len()) {
        return Ok(Fingerprint::of(&[b"collapse", key.as_bytes()]));
    }
    let detail =
        format!("a collapse key has 1 to {MAX_COLLAPSE_KEY_BYTES} bytes, this one has {}", key.len());
    Err(invalid("collapse_key", detail))
}

/// Whom a request addresses, for the count of sends.
pub(super) fn target_of(request: &NotificationRequest) -> Target {
    match (request.to.as_ref().map(Vec::len), request.topic.as_deref()) {
        (Some(1), None) => Target::User,
        (Some(2..), None) => Target::Users,
        (None, Some(TopicName::EVERYBODY)) => Target::Everybody,
        (None, Some(_)) => Target::Topic,
        _ => Target::Unknown,
    }
}

pub(super) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Box<Refusal> {
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
