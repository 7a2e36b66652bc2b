//! A span for each request: it continues the sender's trace, and everything that the request causes is within it.

use opentelemetry::context::FutureExt;
use poem::http::HeaderMap;
use poem::{Endpoint, IntoResponse, Middleware, Request, Response};
use tracing::Instrument;

use super::guard::{SESSIONS, method_label, route_of};
use super::identity::OPERATIONS;
use crate::domain::TraceParent;
use crate::telemetry::{Requested, Tracing};

/// The header of W3C Trace Context §3.2.
const TRACEPARENT: &str = "traceparent";

/// The middleware around all routes and what guards them.
pub(super) struct Traces(pub(super) Tracing);

/// A traced endpoint.
pub(super) struct Traced<E> {
    tracing: Tracing,
    inner: E,
}

impl<E: Endpoint> Middleware<E> for Traces {
    type Output = Traced<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Traced { tracing: self.0.clone(), inner }
    }
}

impl<E: Endpoint> Endpoint for Traced<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        let opens_session = SESSIONS.iter().any(|session| path.starts_with(session));
        // Pages, documents and favicons are not traced.
        if !self.tracing.is_on() || !(opens_session || path.starts_with(OPERATIONS)) {
            return Ok(self.inner.call(request).await?.into_response());
        }
        let method = method_label(request.method());
        let parent = parent_of(request.headers());
        // A storm of reconnects would be a storm of traces: only whoever traces its own connecting sees it.
        if parent.is_none() && opens_session {
            return Ok(self.inner.call(request).await?.into_response());
        }
        let span = match self.tracing.request(method, parent) {
            Requested::Recorded(span) => span,
            Requested::Unrecorded(context) => {
                return Ok(self.inner.call(request).with_context(context).await?.into_response());
            }
        };
        let result = self.inner.call(request).instrument(span.clone()).await.map(IntoResponse::into_response);
        let (route, status) = match &result {
            Ok(response) => (route_of(response.data()), response.status()),
            Err(error) => (route_of(error.data()), error.status()),
        };
        self.tracing.answered(&span, method, route, status.as_u16());
        result
    }
}

/// What the sender says about its trace; a request that says two things says nothing.
fn parent_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    TraceParent::parse(value.to_str().ok()?)
}
