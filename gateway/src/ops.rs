//! The operator's listener: `/metrics`, `/health/live`, `/health/ready`.
//!
//! It knows nothing of what is measured: whoever assembles the gateway hands in what to bring up to date before a scrape.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Route, get, handler, web::Data,
};

use crate::auth::{HostPolicy, host};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;

/// What the handlers share.
#[derive(Clone)]
pub struct Ops {
    /// What is exposed.
    pub metrics: Arc<Metrics>,
    /// What readiness is read from.
    pub lifecycle: Lifecycle,
    /// Which hosts are answered.
    pub hosts: HostPolicy,
    /// Brings gauges up to date before a scrape.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
}

/// The operator's routes.
pub fn routes(ops: Ops) -> impl Endpoint + use<> {
    Route::new()
        .at("/metrics", get(metrics))
        .at("/health/live", get(live))
        .at("/health/ready", get(ready))
        .around(answer_known_hosts)
        .data(ops)
        .into_endpoint()
}

/// Keeps pages that made their own name resolve to this machine (DNS rebinding) from reading the metrics.
async fn answer_known_hosts<E: Endpoint>(endpoint: Arc<E>, request: Request) -> poem::Result<Response> {
    let known = request.data::<Ops>().is_some_and(|ops| ops.hosts.allows(host(&request)));
    if !known {
        return Ok(Response::builder().status(StatusCode::FORBIDDEN).body("unknown host\n"));
    }
    Ok(endpoint.call(request).await?.into_response())
}

#[handler]
async fn metrics(ops: Data<&Ops>) -> Response {
    let (refresh, metrics) = (Arc::clone(&ops.refresh), Arc::clone(&ops.metrics));
    // It walks every mailbox: nothing for a thread that serves sockets.
    let scrape = tokio::task::spawn_blocking(move || {
        refresh();
        metrics.encode()
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
        .body(scrape.await.expect("counting does not panic"))
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
