//! What an operation answers: what it promises, or a problem with one of the statuses it declares.
//!
//! poem-openapi would have each operation repeat each refusal as a variant of a response of its own. Here a list of statuses
//! stands beside the success, for the manual; whatever refuses a request hands over a [`Problem`].

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;

use super::problem::{CONTENT_TYPE, Problem, asks_to_come_back};

/// Nobody is known by the credential.
pub const UNAUTHORIZED: &str =
    "The credential is missing, wrong, over, or stood in the address. Nothing happened.";
/// Before a handler is asked.
pub const NOT_NOW: &str = "The keys of the token cannot be had now, or too many bodies are being read: try again after `Retry-After` seconds.";
/// Why requests are refused before any handler sees them.
pub const FORBIDDEN: &str = "The credential does not allow this, the page's origin may not use the gateway, or the `Host` is none of \
                             its names.";
/// Somebody sends too much.
pub const TOO_MANY_REQUESTS: &str = "More than the API key or the user may send: try again after `Retry-After` seconds. Nothing \
                                     is delivered.";
/// The guard reads bodies within a time limit.
pub const REQUEST_TIMEOUT: &str = "The body took too long to arrive. Nothing happened.";
/// Only one media type is read.
pub const UNSUPPORTED_MEDIA_TYPE: &str = "The body is not `application/json`. Nothing happened.";

/// The refusals that a kind of operations declares.
pub trait Refusals {
    /// Each status, and what it means for these operations.
    const STATUSES: &'static [(u16, &'static str)];
}

/// `T`, or a problem with one of the statuses of `R`. Those that ask to come back (409, 429, 503) say when.
pub struct Answer<T, R>(Result<T, Box<Problem>>, PhantomData<R>);

impl<T, R> From<Result<T, Box<Problem>>> for Answer<T, R> {
    fn from(result: Result<T, Box<Problem>>) -> Self {
        Self(result, PhantomData)
    }
}

impl<T: IntoResponse, R: Refusals + Send> IntoResponse for Answer<T, R> {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(answer) => answer.into_response(),
            Err(problem) => {
                let status = problem.status();
                debug_assert!(
                    R::STATUSES.iter().any(|(declared, _)| *declared == status.as_u16()),
                    "{status} is not declared by this operation"
                );
                problem.into_response()
            }
        }
    }
}

impl<T: ApiResponse, R: Refusals> ApiResponse for Answer<T, R> {
    fn meta() -> MetaResponses {
        let mut meta = T::meta();
        meta.responses.extend(R::STATUSES.iter().map(|(status, description)| refusal(*status, description)));
        meta
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        Problem::register(registry);
    }
}

fn refusal(status: u16, description: &'static str) -> MetaResponse {
    let retry_after = MetaHeader {
        name: "RETRY-AFTER".to_owned(),
        description: Some("Seconds.".to_owned()),
        required: true,
        deprecated: false,
        schema: u32::schema_ref(),
    };
    let comes_back = StatusCode::from_u16(status).is_ok_and(asks_to_come_back);
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType { content_type: CONTENT_TYPE, schema: Problem::schema_ref() }],
        headers: comes_back.then_some(retry_after).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Busy;

    impl Refusals for Busy {
        const STATUSES: &'static [(u16, &'static str)] = &[(404, "gone"), (503, "busy")];
    }

    fn answer(status: StatusCode) -> Response {
        Answer::<(), Busy>::from(Err(Box::new(Problem::new(status, "why")))).into_response()
    }

    #[test]
    fn only_who_shall_come_back_is_told_when() {
        assert_eq!(answer(StatusCode::SERVICE_UNAVAILABLE).header("retry-after"), Some("1"));
        assert_eq!(answer(StatusCode::NOT_FOUND).header("retry-after"), None);
        let declared: Vec<_> = <Answer<(), Busy> as ApiResponse>::meta()
            .responses
            .iter()
            .map(|response| response.status)
            .collect();
        assert_eq!(declared, [Some(200), Some(404), Some(503)]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "not declared")]
    fn a_status_that_is_not_in_the_manual_is_noticed() {
        answer(StatusCode::GONE);
    }
}
