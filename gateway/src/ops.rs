//! The operator's listener: `/metrics`, `/health/live`, `/health/ready`.
//!
//! It knows nothing of what is measured: whoever assembles the gateway hands in what to bring up to date before a scrape.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route, get, handler, web::Data};

use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;

/// What the handlers share.
#[derive(Clone)]
pub struct Ops {
    /// What is exposed.
    pub metrics: Arc<Metrics>,
    /// What readiness is read from.
    pub lifecycle: Lifecycle,
    /// Brings gauges up to date before a scrape.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
}

/// The operator's routes.
pub fn routes(ops: Ops) -> impl Endpoint + use<> {
    Route::new()
        .at("/metrics", get(metrics))
        .at("/health/live", get(live))
        .at("/health/ready", get(ready))
        .data(ops)
        .into_endpoint()
}

#[handler]
fn metrics(ops: Data<&Ops>) -> Response {
    (ops.refresh)();
    Response::builder()
        .header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .body(ops.metrics.encode())
}

/// The process serves requests: restart it when this fails.
#[handler]
fn live() -> &'static str {
    "live\n"
}

/// New senders and receivers are welcome: take it out of the balancer when this fails.
#[handler]
fn ready(ops: Data<&Ops>) -> (StatusCode, &'static str) {
    if ops.lifecycle.is_ready() {
        (StatusCode::OK, "ready\n")
    } else if ops.lifecycle.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
