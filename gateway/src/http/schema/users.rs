//! What is known of a user.

use poem_openapi::Object;
use poem_openapi::types::Example;

use crate::delivery::UserSummary;
use crate::domain::Position;

/// What is known of a user; all zeros for one never seen.
#[derive(Debug, Clone, Object)]
#[oai(rename = "User", example, skip_serializing_if_is_none)]
pub(in crate::http) struct UserAnswer {
    /// The user id.
    user: String,
    /// Open sessions, on all gateways that share the log.
    sessions: u32,
    /// Notifications that wait for the user's ack.
    pending: u32,
    /// Bytes of their frames.
    pending_bytes: u64,
    /// The position of the last notification that came to the mailbox, if one is remembered.
    position: Option<String>,
    /// Everything up to this position is final: acked, expired, or gone in another way. Left out for a user never seen.
    acked: Option<String>,
}

/// Sessions that were told to end.
#[derive(Debug, Clone, Object)]
#[oai(example)]
pub(in crate::http) struct Disconnected {
    /// How many there were.
    pub(in crate::http) sessions: u32,
}

/// A user's subscriptions.
#[derive(Debug, Clone, Object)]
#[oai(example)]
pub(in crate::http) struct UserTopics {
    /// The names of the topics, sorted.
    pub(in crate::http) topics: Vec<String>,
}

impl UserAnswer {
    /// `position_of` turns a number into a position.
    pub(in crate::http) fn new(
        user: &str,
        summary: &UserSummary,
        position_of: impl Fn(u64) -> Position,
    ) -> Self {
        let known = *summary != UserSummary::default();
        Self {
            user: user.to_owned(),
            sessions: summary.sessions,
            pending: summary.pending,
            pending_bytes: summary.pending_bytes,
            position: (summary.last > 0).then(|| position_of(summary.last).to_string()),
            acked: known.then(|| position_of(summary.acked).to_string()),
        }
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
            acked: Some("3k9q2m7w1x5ze-1041".to_owned()),
        }
    }
}

impl Example for Disconnected {
    fn example() -> Self {
        Self { sessions: 2 }
    }
}

impl Example for UserTopics {
    fn example() -> Self {
        Self { topics: vec!["news".to_owned(), "weather".to_owned()] }
    }
}
