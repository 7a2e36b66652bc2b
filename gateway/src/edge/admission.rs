//! Who may open a session, by whichever transport.

use poem::Request;
use poem::http::{HeaderValue, StatusCode, header};

use super::Problem;
use crate::auth::{OriginPolicy, host};
use crate::lifecycle::Lifecycle;
use crate::metrics::OpenResult;
use crate::protocol::CloseCode;

/// Judges attempts to open a session.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Which pages may open one.
    pub origins: OriginPolicy,
    /// Whether new sessions are welcome.
    pub lifecycle: Lifecycle,
}

/// Why a session is refused, in every language that a client may speak.
#[derive(Debug)]
pub struct NotAdmitted {
    /// For the count of attempts.
    pub result: OpenResult,
    /// For a client that was upgraded to be told why.
    pub code: CloseCode,
    /// For a client that reads HTTP.
    pub problem: Problem,
}

impl Admission {
    /// Why this request may open no session, if it may not.
    #[must_use]
    pub fn refusal(&self, request: &Request) -> Option<NotAdmitted> {
        let origin = request.headers().get(header::ORIGIN);
        let allowed = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| self.origins.allows(origin, host(request)))
        };
        if !origin.is_none_or(allowed) {
            let detail = "pages of this origin may not listen here; see http.allowed_origins";
            return Some(NotAdmitted {
                result: OpenResult::Origin,
                code: CloseCode::Forbidden,
                problem: Problem::new(StatusCode::FORBIDDEN, detail),
            });
        }
        self.lifecycle.is_stopping().then(|| NotAdmitted {
            result: OpenResult::Overloaded,
            code: CloseCode::Drain,
            problem: Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"),
        })
    }
}
