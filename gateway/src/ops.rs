//! The operator's listener: `/metrics`, `/state`, `/health/live`, `/health/ready`.
//!
//! It knows nothing of what is measured: whoever assembles the gateway hands in what to bring up to date before a scrape, once
//! there is something. Until then it says that the gateway starts.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock};

use poem::http::{StatusCode, header};
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Route, get, handler, web::Data,
};

use crate::auth::{HostPolicy, host};
use crate::lifecycle::{Lifecycle, Readiness};
use crate::metrics::{Metrics, open_metrics};

/// What the handlers share.
#[derive(Clone)]
pub struct Ops {
    /// What is exposed.
    pub metrics: Arc<Metrics>,
    /// What readiness is read from.
    pub lifecycle: Lifecycle,
    /// Which hosts are answered.
    pub hosts: HostPolicy,
    /// Empty while the gateway starts.
    pub assembled: Arc<OnceLock<Assembled>>,
    /// Held by the scrape that is being answered: two at once would bring counters up to date twice.
    pub scraping: Arc<Mutex<()>>,
}

/// What only a gateway has whose state is computed.
#[derive(Clone)]
pub struct Assembled {
    /// Brings gauges up to date before a scrape.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// What was computed from the log.
    pub digest: Arc<dyn Fn() -> StateDigest + Send + Sync>,
    /// What an accepted notification survives, in words.
    pub durability: Cow<'static, str>,
}

/// What two nodes must agree about that have applied the same entries.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StateDigest {
    /// Whose numbers `applied` is one of.
    pub epoch: String,
    /// The last entry that was applied.
    pub applied: u64,
    /// A SHA-256 over everything that follows from the log, in hexadecimal digits.
    pub digest: String,
}

/// The operator's routes.
pub fn routes(ops: Ops) -> impl Endpoint + use<> {
    Route::new()
        .at("/metrics", get(metrics))
        .at("/state", get(state))
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

/// In the format of OpenMetrics, which carries exemplars, for scrapers that ask for it.
#[handler]
async fn metrics(request: &Request, ops: Data<&Ops>) -> Response {
    let (assembled, metrics) = (Arc::clone(&ops.assembled), Arc::clone(&ops.metrics));
    let accept: Vec<&str> =
        request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    let wanted = quality(&accept, "application/openmetrics-text");
    let open = wanted > 0.0 && wanted >= quality(&accept, "text/plain");
    // It walks every mailbox: nothing for a thread that serves sockets.
    let scraping = Arc::clone(&ops.scraping);
    let scrape = tokio::task::spawn_blocking(move || {
        let _alone = scraping.lock().expect("counting does not panic");
        if let Some(assembled) = assembled.get() {
            (assembled.refresh)();
        }
        if open { metrics.encode_open_metrics() } else { metrics.encode() }
    });
    let content_type =
        if open { open_metrics::CONTENT_TYPE } else { "text/plain; version=0.0.4; charset=utf-8" };
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::VARY, "Accept")
        .body(scrape.await.expect("counting does not panic"))
}

/// For comparing nodes. It walks everything there is: not for every scrape, and while entries are applied it does not say what
/// held at one moment.
#[handler]
async fn state(ops: Data<&Ops>) -> Response {
    let Some(Assembled { digest, .. }) = ops.assembled.get().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let scraping = Arc::clone(&ops.scraping);
    let digesting = tokio::task::spawn_blocking(move || {
        let _alone = scraping.lock().expect("counting does not panic");
        digest()
    });
    let digest = digesting.await.expect("computing a digest does not panic");
    let body = serde_json::to_string(&digest).expect("texts and a number serialize");
    Response::builder().content_type("application/json").body(body + "\n")
}

/// The process serves requests: restart it when this fails.
#[handler]
fn live() -> &'static str {
    "live\n"
}

/// New senders and receivers are welcome, and what becomes of what they send: take it out of the balancer when this fails.
#[handler]
fn ready(ops: Data<&Ops>) -> (StatusCode, String) {
    let why_not = match ops.lifecycle.readiness() {
        Readiness::Ready => {
            let durability = ops.assembled.get().map_or("", |assembled| &*assembled.durability);
            return (StatusCode::OK, format!("ready\nlog {durability}\n"));
        }
        Readiness::Starting => "starting\n",
        Readiness::Stalled => "the log does not move\n",
        Readiness::Behind => "this node is behind the log\n",
        Readiness::Halted => "the log cannot be followed\n",
        Readiness::Stopping => "stopping\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, why_not.to_owned())
}

/// How much a media type is wanted: the greatest quality it is listed with by its own name (RFC 9110 §12.5.1), 0 if it is not.
fn quality(accept: &str, wanted: &str) -> f32 {
    let listed = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next()?.eq_ignore_ascii_case(wanted);
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        named.then(|| quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
    });
    listed.fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_wanted_as_much_as_it_is_listed() {
        // What Prometheus 2.42 asks with.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(quality(prometheus, "application/openmetrics-text"), 1.0);
        assert_eq!(quality(prometheus, "text/plain"), 0.5);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(quality(browser, "application/openmetrics-text"), 0.0);
        assert_eq!(quality("", "text/plain"), 0.0);
        assert_eq!(quality("application/OpenMetrics-text; q=0", "application/openmetrics-text"), 0.0);
        assert_eq!(quality("text/plain;q=nonsense", "text/plain"), 0.0);
    }
}
