//! Failures as the sender sees them: `application/problem+json` (RFC 9457).
//!
//! One `match` turns every error into status, public text and, where the fault is ours, a log line.

use std::time::Duration;

use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError};
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::Object;
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use poem_openapi::types::ToJSON;

use serde::Serialize;

use super::access::{NotAllowed, refused};
use super::body::InvalidBody;

/// When a client shall try again if nothing better is known, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;

/// How a client shows who it is (RFC 6750).
pub const BEARER: &str = "Bearer";

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, in the form of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` says no more than the status.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The part of the request that is wrong, when it can be named: `to[2]`, `ttl_seconds`, `user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// `unknown` when it may have been accepted although no 202 came: retry it with the same `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<String>,
    /// When to try again, in seconds: for the header.
    #[oai(skip)]
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem of this status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            delivered: None,
            retry_after: None,
        }
    }

    /// A malformed request whose faulty part has a name.
    #[must_use]
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    /// Marks that nobody can tell whether the notification was accepted.
    #[must_use]
    pub fn delivery_unknown(self) -> Self {
        Self { delivered: Some("unknown".to_owned()), ..self }
    }

    /// Says when to try again; without it a second is enough.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        // A moment too late is better than a moment too early.
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Self { retry_after: Some(seconds), ..self }
    }

    /// When whoever shall come back shall do so, in seconds.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u32 {
        self.retry_after.unwrap_or(RETRY_AFTER_SECONDS)
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Turns an error that no handler answered into a problem.
    #[must_use]
    pub fn from_error(error: &poem::Error) -> Self {
        if let Some(error) = error.downcast_ref::<InvalidBody>() {
            let problem = Self::new(StatusCode::BAD_REQUEST, error.to_string());
            return Self { field: error.field.clone(), ..problem };
        }
        if let Some(error) = error.downcast_ref::<ParsePathError>() {
            let (parameter, message) = unwrap_reason(error.name, &error.reason);
            return Self::invalid(parameter, message);
        }
        if let Some(error) = error.downcast_ref::<ParseParamError>() {
            let (_, message) = unwrap_reason(error.name, &error.reason);
            return Self::invalid(error.name, message);
        }
        if let Some(error) = error.downcast_ref::<ContentTypeError>() {
            return Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("{error}; send `Content-Type: application/json`"),
            );
        }
        if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            return Self::new(error_status(error), error.to_string());
        }
        if let Some(NotAllowed { refusal, needs }) = error.downcast_ref::<NotAllowed>() {
            return refused(*refusal, needs);
        }
        if error.downcast_ref::<NotFoundError>().is_some() {
            return Self::new(StatusCode::NOT_FOUND, "there is nothing at this path; see /docs");
        }
        if error.downcast_ref::<MethodNotAllowedError>().is_some() {
            return Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not know the method; see /docs",
            );
        }
        let status = error.status();
        if status.is_server_error() {
            tracing::error!(%error, status = status.as_u16(), "a request failed");
            return Self::new(status, "the gateway failed to answer this request");
        }
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let response = Response::builder().status(status).header(header::CONTENT_TYPE, CONTENT_TYPE);
        let response = match status {
            // RFC 9110 §11.6.1 wants it said.
            StatusCode::UNAUTHORIZED => response.header(header::WWW_AUTHENTICATE, BEARER),
            status if asks_to_come_back(status) => {
                response.header(header::RETRY_AFTER, self.retry_after_seconds())
            }
            _ => response,
        };
        response.body(self.to_json_string())
    }
}

/// Whether who gets this status shall try again, and is told when.
#[must_use]
pub fn asks_to_come_back(status: StatusCode) -> bool {
    matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

fn error_status(error: &ReadBodyError) -> StatusCode {
    match error {
        ReadBodyError::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// poem-openapi numbers path parameters and wraps their message: `failed to parse "user": the message`. The name of the
/// type and the message are what helps the sender.
fn unwrap_reason<'a>(name: &'a str, text: &'a str) -> (&'a str, &'a str) {
    let unwrapped = text.strip_prefix("failed to parse \"").and_then(|rest| rest.split_once("\": "));
    unwrapped.unwrap_or((name, text))
}
