//! `/v1/stats`: how the gateway does, for whoever has no Prometheus at hand.
//!
//! It reads counters that are kept anyway and walks nothing, so that a page may ask every second.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use tokio::time::Instant;

use super::schema::stats::{SessionCounts, StatsAnswer, StatsTotals};
use crate::delivery::Delivery;
use crate::domain::Outcome;
use crate::edge::answer::{FORBIDDEN, NOT_NOW, UNAUTHORIZED};
use crate::edge::parameters::Tag;
use crate::edge::{Answer, MayReadState, Refusals};
use crate::metrics::{Label, Metrics, SendResult, Stage, Transport};

/// The operation about the gateway itself.
pub struct StatsApi {
    delivery: Delivery,
    metrics: Arc<Metrics>,
    started: Instant,
}

/// The answer.
#[derive(ApiResponse)]
enum StatsResponse {
    /// As of now.
    #[oai(status = 200)]
    Stats(Json<StatsAnswer>),
}

struct Looking;

impl Refusals for Looking {
    const STATUSES: &'static [(u16, &'static str)] = &[(401, UNAUTHORIZED), (403, FORBIDDEN), (503, NOT_NOW)];
}

impl StatsApi {
    pub(super) fn new(delivery: Delivery, metrics: Arc<Metrics>) -> Self {
        Self { delivery, metrics, started: Instant::now() }
    }
}

#[OpenApi(tag = "Tag::Gateway")]
impl StatsApi {
    /// Look at the gateway
    ///
    /// Sessions, what is pending, and counters of what happened, on this node. The console at `/` draws them; for dashboards
    /// and alerts there are metrics in the format of Prometheus, with much more in them.
    #[oai(path = "/v1/stats", method = "get", operation_id = "getStats")]
    async fn look(&self, _caller: MayReadState) -> Answer<StatsResponse, Looking> {
        Answer::from(Ok(StatsResponse::Stats(Json(self.stats()))))
    }
}

impl StatsApi {
    fn stats(&self) -> StatsAnswer {
        let (totals, metrics) = (self.delivery.totals(), &self.metrics);
        let sessions = |transport| u64::try_from(metrics.sessions.of(transport).get()).unwrap_or_default();
        let offered: u64 = SendResult::ALL.iter().map(|result| metrics.sends(*result)).sum();
        let accepted = metrics.sends(SendResult::Accepted);
        // An answer that was given before is no refusal.
        let answered = accepted + metrics.sends(SendResult::Repeated);
        StatsAnswer {
            version: crate::VERSION.to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            sessions: SessionCounts {
                websocket: sessions(Transport::WebSocket),
                sse: sessions(Transport::ServerSentEvents),
            },
            users_online: totals.online_users,
            users_known: totals.known_users,
            pending: totals.pending(),
            totals: StatsTotals {
                notifications_accepted: accepted,
                notifications_refused: offered.saturating_sub(answered),
                frames_written: metrics.push_latency.of(Stage::Written).count()
                    + metrics.stored_delivery_age.get_sample_count(),
                recipients_accepted: totals.ledger.accepted,
                acked: totals.ledger.of(Outcome::Acked),
                expired: totals.ledger.of(Outcome::Expired),
                collapsed: totals.ledger.of(Outcome::Collapsed),
                withdrawn: totals.ledger.of(Outcome::Withdrawn),
                dropped: totals.ledger.of(Outcome::Overflowed) + totals.ledger.of(Outcome::Rejected),
            },
        }
    }
}
