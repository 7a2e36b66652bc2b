//! How the gateway does.

use poem_openapi::Object;
use poem_openapi::types::Example;

/// How the gateway does, on this node. What is counted in `totals` only grows; two answers make a rate.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Stats", example)]
pub(in crate::http) struct StatsAnswer {
    /// The version of the gateway.
    pub(in crate::http) version: String,
    /// How long it has been running, in seconds.
    pub(in crate::http) uptime_seconds: f64,
    /// Open sessions.
    pub(in crate::http) sessions: SessionCounts,
    /// Users with at least one session.
    pub(in crate::http) users_online: u64,
    /// Users with a session, or with something kept for them.
    pub(in crate::http) users_known: u64,
    /// Notifications that wait for an ack, one for each recipient.
    pub(in crate::http) pending: u64,
    /// What happened so far.
    pub(in crate::http) totals: StatsTotals,
}

/// Open sessions by their way.
#[derive(Debug, Clone, Object)]
pub(in crate::http) struct SessionCounts {
    /// WebSockets.
    pub(in crate::http) websocket: u64,
    /// Streams of server-sent events.
    pub(in crate::http) sse: u64,
}

/// What happened so far.
#[derive(Debug, Clone, Object)]
pub(in crate::http) struct StatsTotals {
    /// Notifications that senders offered and the gateway accepted, since it started.
    pub(in crate::http) notifications_accepted: u64,
    /// Those it refused, for whatever reason, since it started.
    pub(in crate::http) notifications_refused: u64,
    /// Notifications written to sessions, once for each, since it started.
    pub(in crate::http) frames_written: u64,
    /// Notifications that came to mailboxes, one for each recipient, counted like the rest from the oldest entry in the log.
    pub(in crate::http) recipients_accepted: u64,
    /// Acked.
    pub(in crate::http) acked: u64,
    /// Their time to live passed.
    pub(in crate::http) expired: u64,
    /// Later ones took their places.
    pub(in crate::http) collapsed: u64,
    /// Taken back.
    pub(in crate::http) withdrawn: u64,
    /// Lost to a full mailbox, or refused by one.
    pub(in crate::http) dropped: u64,
}

impl Example for StatsAnswer {
    fn example() -> Self {
        Self {
            version: "0.1.0".to_owned(),
            uptime_seconds: 86_400.5,
            sessions: SessionCounts { websocket: 950, sse: 50 },
            users_online: 900,
            users_known: 1_200,
            pending: 310,
            totals: StatsTotals {
                notifications_accepted: 40_000,
                notifications_refused: 12,
                frames_written: 41_200,
                recipients_accepted: 52_000,
                acked: 51_000,
                expired: 600,
                collapsed: 50,
                withdrawn: 30,
                dropped: 10,
            },
        }
    }
}
