//! `/v1/notifications/{id}`: what became of a notification, and how to take it back.

use poem::http::StatusCode;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};

use super::Http;
use super::refusal::unavailable;
use super::schema::outcomes::OutcomeAnswer;
use crate::delivery::{NoReport, OutcomeError, OutcomeReport};
use crate::edge::answer::{FORBIDDEN, UNAUTHORIZED};
use crate::edge::parameters::{NotificationParam, Tag};
use crate::edge::{Answer, JsonAnswer, MayReadOutcomes, MayWithdraw, Problem, Refusals};

/// Recipients that are listed if nobody says how many.
pub(super) const DEFAULT_RECIPIENTS: u32 = 1_000;

/// The operations about one notification.
pub struct OutcomeApi {
    pub(super) http: Http,
}

/// What became of a notification.
#[derive(ApiResponse)]
enum OutcomeResponse {
    /// What became of it so far.
    #[oai(status = 200)]
    Known(JsonAnswer<OutcomeAnswer>),
}

struct Asking;

impl Refusals for Asking {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The id is no UUID, or `limit` or `offset` is out of range."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (404, "There is no such notification, or it went to everybody who was connected."),
        (410, "Its outcome is not remembered any more: it was final an hour ago, or many came since."),
        (503, "The log cannot be read now: try again after `Retry-After` seconds."),
    ];
}

struct Withdrawing;

impl Refusals for Withdrawing {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The id is no UUID, or `limit` or `offset` is out of range."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (404, "There is no such notification, or it went to everybody who was connected."),
        (410, "Its outcome is not remembered any more: it was final long ago, or too much came since."),
        (413, "It names too many recipients to be taken back."),
        (
            503,
            "The log cannot be read or written now: try again after `Retry-After` seconds, which is always safe.",
        ),
    ];
}

/// Which of the recipients to list.
struct Part {
    offset: Option<u32>,
    limit: Option<u32>,
}

#[OpenApi(tag = "Tag::Sending")]
impl OutcomeApi {
    /// Look what became of a notification
    ///
    /// How many recipients are in which state, and the recipients one by one. It can be asked for until an hour after it
    /// became final for the last recipient. *Try it out* with the `id` of an answer to *Send a notification*.
    #[oai(path = "/v1/notifications/:id", method = "get", operation_id = "getNotification")]
    async fn look(
        &self,
        _caller: MayReadOutcomes,
        /// The notification's id, from the answer to the request that sent it.
        id: Path<NotificationParam>,
        /// How many recipients to list: 1 to 10,000. Without it: 1,000.
        #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
        limit: Query<Option<u32>>,
        /// How many recipients to leave out before those. Without it: none.
        offset: Query<Option<u32>>,
    ) -> Answer<OutcomeResponse, Asking> {
        let part = Part { offset: offset.0, limit: limit.0 };
        part.of(self.http.delivery.outcome(id.0.0).await)
    }

    /// Take a notification back
    ///
    /// For every recipient for whom it is still pending it becomes `withdrawn`: whoever has not received it will not, and
    /// finds a gap of that reason. What was acked stays acked. The answer says what became of it.
    #[oai(path = "/v1/notifications/:id", method = "delete", operation_id = "withdrawNotification")]
    async fn withdraw(
        &self,
        _caller: MayWithdraw,
        /// The notification's id, from the answer to the request that sent it.
        id: Path<NotificationParam>,
        /// How many recipients to list: 1 to 10,000. Without it: 1,000.
        #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
        limit: Query<Option<u32>>,
        /// How many recipients to leave out before those. Without it: none.
        offset: Query<Option<u32>>,
    ) -> Answer<OutcomeResponse, Withdrawing> {
        let part = Part { offset: offset.0, limit: limit.0 };
        part.of(self.http.delivery.withdraw(id.0.0).await)
    }
}

impl Part {
    fn of<R>(&self, report: Result<OutcomeReport, OutcomeError>) -> Answer<OutcomeResponse, R> {
        let offset = self.offset.unwrap_or(0) as usize;
        let limit = self.limit.unwrap_or(DEFAULT_RECIPIENTS) as usize;
        let known = |report| OutcomeResponse::Known(JsonAnswer(OutcomeAnswer::new(&report, offset, limit)));
        Answer::from(report.map(known).map_err(problem_of))
    }
}

fn problem_of(error: OutcomeError) -> Box<Problem> {
    let problem = |status| Box::new(Problem::new(status, error.to_string()));
    match error {
        OutcomeError::NoReport(NoReport::Unknown) => problem(StatusCode::NOT_FOUND),
        OutcomeError::NoReport(NoReport::Forgotten) => problem(StatusCode::GONE),
        OutcomeError::Log(error) => unavailable(&error),
        OutcomeError::Change(error) => error.into(),
    }
}
