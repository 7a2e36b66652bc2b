//! The operators' listener: served from before the log is opened until everything else has ended, so that a probe is answered
//! while a long log is read, and the stop can be watched.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use poem::{EndpointExt, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listening::{MAX_HTTP2_STREAMS, deadlines, listen};
use super::run::MIN_END_TIMEOUT;
use super::{BindError, public};
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::listener::{AddressRules, ClientAddresses, Watching};
use crate::metrics::Metrics;
use crate::ops::{self, Assembled, Ops};

/// Connections it holds: scrapers and probes, few but never starved by the public one.
const MAX_CONNECTIONS: usize = 64;

/// The listener, being served; it ends with this value.
pub(super) struct Operators {
    address: SocketAddr,
    finished: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    assembled: Arc<std::sync::OnceLock<Assembled>>,
}

impl Operators {
    /// Binds it and serves what is known so far: that the gateway starts.
    pub(super) fn serve(
        config: &Config,
        metrics: &Arc<Metrics>,
        lifecycle: &Lifecycle,
    ) -> Result<Self, BindError> {
        // Its own counters: `gateway_connections` speaks of the public listener, limits of addresses likewise.
        let own = Arc::new(Metrics::new());
        let clients = Arc::new(ClientAddresses::new(AddressRules::default()));
        let listener = listen(("ops.listen", config.ops.listen), MAX_CONNECTIONS, clients, Arc::clone(&own))?;
        let address = listener.address();
        let assembled = Arc::default();
        let routes = ops::routes(Ops {
            metrics: Arc::clone(metrics),
            lifecycle: lifecycle.clone(),
            hosts: public::host_policy(config.ops.listen, &[]),
            assembled: Arc::clone(&assembled),
            scraping: Arc::default(),
        });
        let finished = CancellationToken::new();
        let serving = tokio::spawn(
            Server::new_with_acceptor(Watching::new(listener, deadlines(config), Arc::default(), own))
                .http2_max_concurrent_streams(MAX_HTTP2_STREAMS)
                .run_with_graceful_shutdown(
                    routes.map_to_response().boxed(),
                    finished.clone().cancelled_owned(),
                    Some(MIN_END_TIMEOUT),
                ),
        );
        Ok(Self { address, finished, serving, assembled })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it tells what only a gateway knows whose state is computed.
    pub(super) fn assembled(&self, assembled: Assembled) {
        let first = self.assembled.set(assembled);
        debug_assert!(first.is_ok(), "a gateway is assembled once");
    }

    /// Ends it, open connections included, and says whether it went well.
    pub(super) async fn end(mut self) -> bool {
        self.finished.cancel();
        matches!((&mut self.serving).await, Ok(Ok(())))
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        // Connections have tasks of their own: aborted, they would go on and speak for a gateway that is gone.
        self.finished.cancel();
    }
}
