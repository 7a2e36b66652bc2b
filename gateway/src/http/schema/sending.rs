//! What a sender posts, and what it is told.

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcomes::Outcomes;
use crate::delivery::Accepted;
use crate::domain::Priority;
use crate::edge::Problem;

/// A notification for one or many users, for a topic's subscribers, or for everybody who is connected.
#[derive(Debug, Clone, Object, Deserialize)]
#[oai(example, deny_unknown_fields, skip_serializing_if_is_none)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NotificationRequest {
    /// The recipients: 1 to 10,000 user ids of 1 to 256 bytes each. A user exists as soon as somebody names it. Name either
    /// `to` or `topic`.
    #[oai(validator(min_items = 1, max_items = 10000))]
    pub(in crate::http) to: Option<Vec<String>>,
    /// The topic whose subscribers shall get it: those of the moment at which it is accepted. `*` is everybody who is
    /// connected then: such a notification is kept for nobody, and `ttl_seconds`, `collapse_key` and `priority` mean nothing.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub(in crate::http) topic: Option<String>,
    /// Who says it, as the receiver sees it. Of a user who sends with a token it is that user, whatever stands here.
    pub(in crate::http) from: Option<String>,
    /// One line.
    pub(in crate::http) title: Option<String>,
    /// The text.
    pub(in crate::http) body: Option<String>,
    /// Any JSON value for the receiver's program.
    pub(in crate::http) data: Option<Value>,
    /// How long it may wait for a recipient, in seconds: 0 to 604,800 (7 days). Without it: 86,400 (24 hours). With 0 it goes
    /// only to sessions that are open when it is accepted, and expires five seconds later unless it is acked.
    #[oai(validator(minimum(value = "0"), maximum(value = "604800")))]
    pub(in crate::http) ttl_seconds: Option<u32>,
    /// It takes the place of one that still waits for the same recipient with the same key: 1 to 256 bytes.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub(in crate::http) collapse_key: Option<String>,
    /// What a full mailbox evicts first: `low` before `normal` before `high`. Never changes the order of delivery.
    pub(in crate::http) priority: Option<PriorityName>,
}

/// What a full mailbox evicts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase", rename = "Priority")]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum PriorityName {
    /// First to go.
    Low,
    /// The default.
    Normal,
    /// Last to go.
    High,
}

/// What became of a notification that was accepted.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Accepted", example, skip_serializing_if_is_none)]
pub(in crate::http) struct AcceptedAnswer {
    /// Its name: a UUID of version 7.
    id: String,
    /// Its place in the log; the same in every recipient's frame.
    position: String,
    /// Mailboxes that took it; 0 for the topic `*`, which is kept for nobody.
    recipients: u32,
    /// Recipients that held a session when it came. Of other gateways that share the log it is known a moment later, some 100
    /// milliseconds; of the topic `*`, whoever is connected to several of them counts for each.
    online: u32,
    /// Recipients whose full mailbox refused it (only under the overflow policy `reject`).
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Vec<String>>,
}

/// A notification that was accepted, and what became of it while its sender waited.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Waited", example)]
pub(in crate::http) struct WaitedAnswer {
    #[oai(flatten)]
    #[serde(flatten)]
    pub(in crate::http) accepted: AcceptedAnswer,
    /// What became of it so far; left out when that cannot be told now.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) outcomes: Option<Outcomes>,
}

/// What became of one item of a batch.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub(in crate::http) struct BatchItem {
    /// The status this item would have had alone: 202, or the status of its problem.
    status: u16,
    /// Present with 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedAnswer>,
    /// `true` if the same item was accepted before, under the same `Idempotency-Key`; this one changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    /// Present otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl AcceptedAnswer {
    pub(in crate::http) fn new(accepted: Accepted) -> Self {
        Self {
            id: accepted.id.to_string(),
            position: accepted.position.to_string(),
            recipients: accepted.recipients,
            online: accepted.online,
            rejected: (!accepted.rejected.is_empty())
                .then(|| accepted.rejected.into_iter().map(String::from).collect()),
        }
    }
}

impl BatchItem {
    pub(in crate::http) fn new(result: Result<Accepted, Problem>) -> Self {
        match result {
            Ok(accepted) => Self {
                status: 202,
                replayed: accepted.repeated.then_some(true),
                accepted: Some(AcceptedAnswer::new(accepted)),
                problem: None,
            },
            Err(problem) => Self {
                status: problem.status().as_u16(),
                accepted: None,
                replayed: None,
                problem: Some(problem),
            },
        }
    }
}

impl From<PriorityName> for Priority {
    fn from(name: PriorityName) -> Self {
        match name {
            PriorityName::Low => Self::Low,
            PriorityName::Normal => Self::Normal,
            PriorityName::High => Self::High,
        }
    }
}

impl Example for NotificationRequest {
    fn example() -> Self {
        Self {
            to: Some(vec!["bob".to_owned()]),
            topic: None,
            from: Some("alice".to_owned()),
            title: Some("Hello".to_owned()),
            body: Some("Your parcel is at the door.".to_owned()),
            data: None,
            ttl_seconds: None,
            collapse_key: None,
            priority: None,
        }
    }
}

impl Example for AcceptedAnswer {
    fn example() -> Self {
        Self {
            id: "019abcde-f012-7345-8678-9abcdef01234".to_owned(),
            position: "3k9q2m7w1x5ze-1048".to_owned(),
            recipients: 1,
            online: 1,
            rejected: None,
        }
    }
}

impl Example for WaitedAnswer {
    fn example() -> Self {
        Self { accepted: AcceptedAnswer::example(), outcomes: Some(Outcomes::example()) }
    }
}

impl Example for BatchItem {
    fn example() -> Self {
        Self { status: 202, accepted: Some(AcceptedAnswer::example()), replayed: None, problem: None }
    }
}
