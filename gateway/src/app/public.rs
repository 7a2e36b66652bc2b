//! What the public listener serves: the edges, with what they need.

use std::net::SocketAddr;
use std::sync::Arc;

use poem::Response;
use poem::endpoint::BoxEndpoint;

use super::random_bits;
use super::start::whole_seconds;
use crate::auth::{Authenticator, HostPolicy, OriginPolicy};
use crate::config::{Config, Rate};
use crate::console::{self, About};
use crate::delivery::Delivery;
use crate::edge::{Admission, ReconnectAdvice};
use crate::http::{self, Http, SendLimits};
use crate::lifecycle::Lifecycle;
use crate::limits::{Bucket, MemoryAdmission};
use crate::listener::{ClientAddresses, HangUps};
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::sse::{StreamApi, Streams};
use crate::ws::{SocketApi, Sockets};

/// Sessions that may begin on a node unless somebody says otherwise.
const SESSION_OPENS: Rate = Rate::per_second(2_000, 4_000);

/// Frames that one session may send unless somebody says otherwise.
const INBOUND_FRAMES: Rate = Rate::per_second(200, 2_000);

/// What the public endpoint is made of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) delivery: &'a Delivery,
    pub(super) presence: &'a Presence,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) lifecycle: &'a Lifecycle,
    pub(super) hang_ups: &'a Arc<HangUps>,
    pub(super) authenticator: Authenticator,
    pub(super) memory: MemoryAdmission,
    pub(super) clients: Arc<ClientAddresses>,
    /// Where the operator's listener was bound.
    pub(super) ops: SocketAddr,
}

/// Every public route, ready to be served.
pub(super) fn endpoint(parts: Parts<'_>) -> BoxEndpoint<'static, Response> {
    let Parts {
        config,
        delivery,
        presence,
        metrics,
        lifecycle,
        hang_ups,
        authenticator,
        memory,
        clients,
        ops,
    } = parts;
    let open = config.is_open();
    // In open mode pages on this machine, such as development servers, are welcome.
    let origins = OriginPolicy::new(&config.http.allowed_origins, open);
    let opens = config.limits.session_opens.or((!open).then_some(SESSION_OPENS));
    let admission = Admission {
        origins: origins.clone(),
        lifecycle: lifecycle.clone(),
        authenticator: authenticator.clone(),
        memory: memory.clone(),
        clients: Arc::clone(&clients),
        opens: opens.map(|rate| Arc::new(Bucket::new(rate))),
        max_sessions: max_sessions(config),
        opening: Arc::default(),
        metrics: Arc::clone(metrics),
    };
    let comeback = (config.shutdown.reconnect_after, config.shutdown.reconnect_window);
    let (others, own) = (presence.clone(), lifecycle.clone());
    // Where the log became another one all start over at once.
    let others_take_them = move || !own.starts_over() && others.others_welcome();
    let advice = Arc::new(ReconnectAdvice::new(comeback, random_bits(), others_take_them));
    let seed = random_bits();
    let streams = Streams {
        delivery: delivery.clone(),
        metrics: Arc::clone(metrics),
        admission: admission.clone(),
        hang_ups: Arc::clone(hang_ups),
        heartbeat: config.sessions.heartbeat,
        write_timeout: config.http.write_timeout,
        advice: Arc::clone(&advice),
        seed,
    };
    let sockets = Sockets {
        delivery: delivery.clone(),
        metrics: Arc::clone(metrics),
        lifecycle: lifecycle.clone(),
        admission,
        heartbeat: config.sessions.heartbeat,
        write_timeout: config.sessions.write_timeout,
        max_inbound_frame: config.sessions.max_inbound_frame.as_usize(),
        inbound_frames: config.limits.inbound_frames.or((!open).then_some(INBOUND_FRAMES)),
        seed,
        advice,
    };
    let http = Http {
        delivery: delivery.clone(),
        presence: presence.clone(),
        metrics: Arc::clone(metrics),
        lifecycle: lifecycle.clone(),
        hosts: if open || !config.http.allowed_hosts.is_empty() {
            host_policy(config.http.listen, &config.http.allowed_hosts)
        } else {
            HostPolicy::Any
        },
        origins,
        limits: SendLimits {
            max_recipients: config.send.max_recipients,
            max_batch: config.send.max_batch,
            max_bytes: config.notification.max_bytes.as_usize(),
            default_ttl_seconds: whole_seconds(config.notification.default_ttl),
            max_ttl_seconds: whole_seconds(config.notification.max_ttl),
        },
        max_body: config.http.max_body.as_usize(),
        body_timeout: config.http.body_timeout,
        authenticator,
        memory,
        clients,
    };
    let pages =
        console::pages(config.console.enabled, &About::new(&config.console, open, (config.http.listen, ops)));
    http::routes(http, (SocketApi(Arc::new(sockets)), StreamApi(Arc::new(streams))), pages)
}

/// Which hosts a listener answers that needs no credential.
pub(super) fn host_policy(listen: SocketAddr, allowed: &[String]) -> HostPolicy {
    match (allowed.is_empty(), listen.ip().is_loopback()) {
        (false, _) => HostPolicy::Listed(allowed.into()),
        (true, true) => HostPolicy::LoopbackOnly,
        (true, false) => HostPolicy::Any,
    }
}

/// How many sessions this node holds: some connections are left for whoever sends.
fn max_sessions(config: &Config) -> usize {
    let connections = super::max_connections(config);
    config.sessions.max_total.unwrap_or_else(|| (connections - connections / 20).max(1))
}
