//! The two listeners: what they are bound to, what they allow, and how they are served.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::BoxEndpoint;
use poem::listener::Acceptor;
use poem::{Response, Server};

use super::BindError;
use crate::config::{Config, Rate};
use crate::lifecycle::Lifecycle;
use crate::limits::Networks;
use crate::listener::{
    self, AddressRules, BoundListener, ClientAddresses, Deadlines, HangUps, Tls, TlsError, Watching,
};
use crate::metrics::Metrics;

/// HTTP/2 streams one connection may have open at the same time.
pub(super) const MAX_HTTP2_STREAMS: u32 = 100;

/// `limits.connects_per_address` when nobody says otherwise.
const CONNECTS_PER_ADDRESS: Rate = Rate::per_second(100, 2_000);

/// How much later than the deadline the HTTP server itself gives up: whoever is cut has been counted by then.
const CUT_AFTER_DEADLINE: Duration = Duration::from_millis(250);

/// How often addresses that need not be remembered are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);

/// Binds a listener.
pub(super) fn listen(
    (key, address): (&'static str, SocketAddr),
    max_connections: usize,
    clients: Arc<ClientAddresses>,
    metrics: Arc<Metrics>,
) -> Result<BoundListener, BindError> {
    BoundListener::bind(address, max_connections, clients, metrics).map_err(|error| BindError::Listen {
        address,
        key,
        error,
    })
}

/// Reads the certificate and its key, if the public listener speaks TLS.
///
/// # Errors
/// [`TlsError`] when they cannot be used.
pub fn load_tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    let files = config.http.tls_certificate_file.as_ref().zip(config.http.tls_key_file.as_ref());
    files.map(|(certificate, key)| Tls::load(certificate, key)).transpose()
}

/// What addresses may do on the public listener.
pub(super) fn address_rules(config: &Config) -> AddressRules {
    let is_secured = !config.is_open();
    let share = (max_connections(config) / 4).max(1);
    AddressRules {
        trusted_proxies: Networks::new(&config.http.trusted_proxies),
        exempt: Networks::new(&config.limits.exempt_addresses),
        connects: config.limits.connects_per_address.or(is_secured.then_some(CONNECTS_PER_ADDRESS)),
        max_connections: config.http.max_connections_per_address.or(is_secured.then_some(share)),
    }
}

/// Keeps nobody in mind who has not come for a while.
pub(super) async fn forget_addresses(clients: Arc<ClientAddresses>) -> Infallible {
    let mut interval = tokio::time::interval(SWEEP_PERIOD);
    loop {
        interval.tick().await;
        clients.sweep();
    }
}

/// What every connection has to keep to.
pub(super) fn deadlines(config: &Config) -> Deadlines {
    Deadlines {
        first_request_timeout: config.http.first_request_timeout,
        header_timeout: config.http.header_timeout,
        keep_alive: config.http.keep_alive,
        write_timeout: config.http.write_timeout,
        max_header: config.http.max_header.as_usize(),
    }
}

/// Connections the public listener holds.
pub(super) fn max_connections(config: &Config) -> usize {
    config.http.max_connections.unwrap_or_else(|| {
        // Where the limit cannot be read, a cautious guess serves better than none.
        let (soft, _) = rlimit::Resource::NOFILE.get().unwrap_or((1_024, 1_024));
        listener::connections_for(soft)
    })
}

/// Serves the public listener until the gateway stops and requests in flight have ended, at most a little longer than
/// `shutdown.timeout`.
pub(super) fn serve<A: Acceptor + 'static>(
    acceptor: A,
    endpoint: BoxEndpoint<'static, Response>,
    config: &Config,
    hang_ups: Arc<HangUps>,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> impl Future<Output = io::Result<()>> + Send + use<A> {
    let server =
        Server::new_with_acceptor(Watching::new(acceptor, deadlines(config), hang_ups, Arc::clone(metrics)))
            .http2_max_concurrent_streams(MAX_HTTP2_STREAMS)
            .http2_max_header_list_size(u32::try_from(config.http.max_header.0).unwrap_or(u32::MAX));
    let stopping = lifecycle.clone();
    let timeout = config.shutdown.timeout + CUT_AFTER_DEADLINE;
    server.run_with_graceful_shutdown(endpoint, async move { stopping.stopping().await }, Some(timeout))
}
