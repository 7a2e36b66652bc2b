//! The connection to the NATS servers, which the log and `presence` share.
//!
//! The client reconnects by itself, for ever. What happens to it is logged, but not more than a line a second of each kind:
//! it has an event for every message that it drops.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;
use tokio::time::Instant;

use super::NatsError;
use crate::clock::Clock;
use crate::log::MAX_ENTRY_BYTES;
use crate::telemetry::Throttle;

/// The oldest servers that do all that is asked of them.
const OLDEST_VERSION: (i64, i64, i64) = (2, 9, 0);

/// Bytes of a message beside an entry: its headers.
pub(super) const HEADER_BYTES: usize = 256;

/// How long one request to JetStream, or one acknowledgement of an entry, may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Entries that may be on their way at the same time.
const MAX_IN_FLIGHT: usize = 16 * 1024;

/// How long a lost connection waits at most between two attempts.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// The least time between two log lines about the same.
pub(super) const EVENT_PERIOD_MS: u64 = 10_000;

/// How often the server is asked whether it is there: after two questions without an answer another one is tried. A server
/// that hangs keeps its connections.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How long one server may take to answer a connect, before another one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two attempts to connect while the gateway starts.
const RETRY: Duration = Duration::from_millis(250);

/// How to reach NATS. File contents are read when the connection is opened, and once.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// The servers, each with its scheme.
    pub servers: Vec<String>,
    /// How long to try.
    pub timeout: Duration,
    /// A file of a JWT and its seed.
    pub credentials_file: Option<PathBuf>,
    /// A user, and a file with the password.
    pub user: Option<(String, PathBuf)>,
    /// A file with a token.
    pub token_file: Option<PathBuf>,
    /// Certificates that servers are trusted by, beside those of the system.
    pub root_certificates_file: Option<PathBuf>,
    /// A certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// An open connection; cheap to clone.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    jetstream: Context,
    /// Counts connects: whoever follows something looks again whether it is still the same.
    connects: watch::Receiver<u64>,
}

impl Connection {
    /// Connects, and checks that the servers can do what is asked of them.
    ///
    /// # Errors
    /// [`NatsError`] when no server answers in time, or the one that does is too old or takes no whole entry.
    pub async fn open(options: &ConnectionOptions, clock: Clock) -> Result<Self, NatsError> {
        let deadline = Instant::now() + options.timeout;
        let (connected, connects) = watch::channel(0);
        let events = Arc::new(Events {
            clock,
            connected,
            throttles: [(); 4].map(|()| Throttle::every(EVENT_PERIOD_MS)),
        });
        let client = loop {
            let connecting = connect_options(options, &events).await?.connect(options.servers.clone());
            match connecting.await {
                Ok(client) => break client,
                Err(error) if Instant::now() + RETRY >= deadline => {
                    let servers = options.servers.join(",");
                    return Err(NatsError::Unreachable { servers, reason: error.to_string() });
                }
                Err(error) => {
                    tracing::info!(%error, "NATS does not answer; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let jetstream = ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .max_ack_inflight(MAX_IN_FLIGHT)
            .build(client.clone());
        let connection = Self { client, jetstream, connects };
        connection.check()?;
        Ok(connection)
    }

    /// Whether the server that it is connected to now can do what is asked of it: another connect may find another version.
    pub(super) fn check(&self) -> Result<(), NatsError> {
        let (major, minor, patch) = OLDEST_VERSION;
        let info = self.client.server_info();
        if !self.client.is_server_compatible(major, minor, patch) {
            return Err(NatsError::TooOld { version: info.version });
        }
        if info.max_payload < MAX_ENTRY_BYTES + HEADER_BYTES {
            return Err(NatsError::SmallPayload { max_payload: info.max_payload });
        }
        Ok(())
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Changes with each connect.
    #[must_use]
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// For plain messages.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn jetstream(&self) -> &Context {
        &self.jetstream
    }
}

/// What the client says of itself.
struct Events {
    clock: Clock,
    connected: watch::Sender<u64>,
    /// For each kind of line.
    throttles: [Throttle; 4],
}

impl Events {
    fn note(&self, event: Event) {
        let now_ms = self.clock.now_ms();
        let pass = |kind: usize| self.throttles[kind].pass(now_ms);
        match event {
            Event::Connected => {
                self.connected.send_modify(|connects| *connects += 1);
                if let Some(held_back) = pass(0) {
                    tracing::info!(held_back, "connected to NATS");
                }
            }
            Event::Disconnected => {
                if let Some(held_back) = pass(1) {
                    tracing::warn!(held_back, "the connection to NATS is lost; connecting again");
                }
            }
            Event::SlowConsumer(_) => {
                if let Some(held_back) = pass(2) {
                    tracing::warn!(
                        held_back,
                        "a message from NATS was dropped; what follows the log asks for it again"
                    );
                }
            }
            event => {
                if let Some(held_back) = pass(3) {
                    tracing::warn!(%event, held_back, "NATS");
                }
            }
        }
    }
}

async fn connect_options(
    options: &ConnectionOptions,
    events: &Arc<Events>,
) -> Result<ConnectOptions, NatsError> {
    let secret = |path: &PathBuf| {
        let read = std::fs::read_to_string(path);
        let file = |error| NatsError::File { path: path.clone(), error };
        read.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()).map_err(file)
    };
    let events = Arc::clone(events);
    let mut connect = ConnectOptions::new()
        .name(concat!("gateway ", env!("CARGO_PKG_VERSION")))
        // Answers come from the node that has them, not from this one.
        .no_echo()
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempts| {
            let doubled = Duration::from_millis(20) * (1 << attempts.min(6) as u32);
            doubled.min(MAX_RECONNECT_DELAY)
        })
        .event_callback(move |event| {
            let events = Arc::clone(&events);
            async move { events.note(event) }
        });
    if let Some(path) = &options.credentials_file {
        let file = |error| NatsError::File { path: path.clone(), error };
        connect = connect.credentials_file(path).await.map_err(file)?;
    }
    if let Some((user, password)) = &options.user {
        connect = connect.user_and_password(user.clone(), secret(password)?);
    }
    if let Some(token) = &options.token_file {
        connect = connect.token(secret(token)?);
    }
    if let Some(path) = &options.root_certificates_file {
        connect = connect.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.client_certificate {
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(connect)
}
