//! Requests and answers as JSON. Field comments here are what the manual shows.

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::{Accepted, UserSummary};
use crate::domain::Priority;
use crate::edge::Problem;

/// A notification for one or many users.
#[derive(Debug, Clone, Object, Deserialize)]
#[oai(example, deny_unknown_fields, skip_serializing_if_is_none)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationRequest {
    /// The recipients: 1 to 10,000 user ids of 1 to 256 bytes each. A user exists as soon as somebody names it.
    #[oai(validator(min_items = 1, max_items = 10000))]
    pub(super) to: Option<Vec<String>>,
    /// Reserved: topics are not available yet, name the recipients in `to`.
    pub(super) topic: Option<String>,
    /// Who says it, as the receiver sees it.
    pub(super) from: Option<String>,
    /// One line.
    pub(super) title: Option<String>,
    /// The text.
    pub(super) body: Option<String>,
    /// Any JSON value for the receiver's program.
    pub(super) data: Option<Value>,
    /// How long it may wait for a recipient, in seconds: 1 to 604,800 (7 days). Without it: 86,400 (24 hours).
    #[oai(validator(minimum(value = "1"), maximum(value = "604800")))]
    pub(super) ttl_seconds: Option<u32>,
    /// What a full mailbox evicts first: `low` before `normal` before `high`. Never changes the order of delivery.
    pub(super) priority: Option<PriorityName>,
}

/// What a full mailbox evicts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "lowercase", rename = "Priority")]
#[serde(rename_all = "lowercase")]
pub(super) enum PriorityName {
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
pub(super) struct AcceptedAnswer {
    /// Its name: a UUID of version 7.
    id: String,
    /// Its place in the log; the same in every recipient's frame.
    position: String,
    /// Mailboxes that took it.
    recipients: u32,
    /// Recipients that held a session when it came.
    online: u32,
    /// Recipients whose full mailbox refused it (only under the overflow policy `reject`).
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Vec<String>>,
}

/// What became of one item of a batch.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct BatchItem {
    /// The status this item would have had alone: 202, or the status of its problem.
    status: u16,
    /// Present with 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedAnswer>,
    /// Present otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// What is known of a user; all zeros for one never seen.
#[derive(Debug, Clone, Object)]
#[oai(rename = "User", example, skip_serializing_if_is_none)]
pub(super) struct UserAnswer {
    /// The user id.
    user: String,
    /// Open sessions.
    sessions: u32,
    /// Notifications waiting in the mailbox.
    pending: u32,
    /// Bytes of their frames.
    pending_bytes: u64,
    /// The position of the last notification that came to the mailbox, if one is remembered.
    position: Option<String>,
}

/// Sessions that were told to end.
#[derive(Debug, Clone, Object)]
#[oai(example)]
pub(super) struct Disconnected {
    /// How many there were.
    pub(super) sessions: u32,
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

impl Example for BatchItem {
    fn example() -> Self {
        Self::new(Ok(AcceptedAnswer::example()))
    }
}

impl Example for UserAnswer {
    fn example() -> Self {
        Self {
            user: "bob".to_owned(),
            sessions: 1,
            pending: 2,
            pending_bytes: 412,
            position: Some("3k9q2m7w1x5ze-1048".to_owned()),
        }
    }
}

impl Example for Disconnected {
    fn example() -> Self {
        Self { sessions: 2 }
    }
}

impl AcceptedAnswer {
    pub(super) fn new(accepted: Accepted) -> Self {
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
    pub(super) fn new(result: Result<AcceptedAnswer, Problem>) -> Self {
        match result {
            Ok(accepted) => Self { status: 202, accepted: Some(accepted), problem: None },
            Err(problem) => {
                Self { status: problem.status().as_u16(), accepted: None, problem: Some(problem) }
            }
        }
    }
}

impl UserAnswer {
    pub(super) fn new(user: &str, summary: &UserSummary, position: Option<String>) -> Self {
        Self {
            user: user.to_owned(),
            sessions: summary.sessions,
            pending: summary.pending,
            pending_bytes: summary.pending_bytes,
            position,
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
