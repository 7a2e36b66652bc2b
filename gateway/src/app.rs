//! The composition root: a configuration becomes a running gateway.
//!
//! `main` and the tests start the very same [`App`]. Nothing in it is global: many gateways fit into one process.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::Server;
use poem::endpoint::BoxEndpoint;
use poem::{EndpointExt, Response};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{HostPolicy, OriginPolicy};
use crate::clock::Clock;
use crate::config::{Config, LogStore};
use crate::delivery::{Delivery, DeliveryOptions, StartError};
use crate::domain::{Epoch, OverflowPolicy};
use crate::edge::{Admission, ReconnectAdvice};
use crate::http::{self, Http, SendLimits};
use crate::lifecycle::Lifecycle;
use crate::listener::{self, BoundListener, HangUps, Limits};
use crate::log::entry::Settings;
use crate::log::{DiskLog, DiskOptions, Durability, Log, MemoryLog, OpenError};
use crate::machine;
use crate::metrics::{Metrics, SpanLoss};
use crate::ops::{self, Ops};
use crate::protocol::CloseCode;
use crate::sse::{StreamApi, Streams};
use crate::telemetry::Tracing;
use crate::ws::{SocketApi, Sockets};

/// HTTP/2 streams one connection may have open at the same time.
const MAX_HTTP2_STREAMS: u32 = 100;

/// Connections the operator's listener holds: scrapers and probes, few but never starved by the public one.
const MAX_OPS_CONNECTIONS: usize = 64;

/// How often the log is looked after.
const RETENTION_PERIOD: Duration = Duration::from_secs(1);

/// How long the last acks may take into the log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the tasks get to end, and the operator's connections, even when requests took the whole time.
const MIN_END_TIMEOUT: Duration = Duration::from_millis(500);

/// A gateway whose ports are bound and whose state is rebuilt, ready to run.
pub struct App {
    config: Config,
    public: (BoundListener, BoxEndpoint<'static, Response>),
    ops: (BoundListener, BoxEndpoint<'static, Response>),
    delivery: Delivery,
    durability: Durability,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
}

/// The addresses a running gateway listens on, with the ports the system chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// API, sockets, manual.
    pub http: SocketAddr,
    /// Metrics and health.
    pub ops: SocketAddr,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({key}): {error}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The setting that asks for it.
        key: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be used.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why a gateway stopped in another way than it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// An essential task ended.
    #[error("an essential task ended; see the log")]
    Crashed,
    /// Requests or sockets did not end in time.
    #[error("not everything ended within shutdown.timeout")]
    Unfinished,
}

impl App {
    /// Binds the ports and rebuilds the state. Nothing is served before [`App::run_until`].
    ///
    /// # Errors
    /// [`BindError`] when a port is taken or the log cannot be used.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, Clock::system(), Tracing::off()).await
    }

    /// Like [`App::bind`], with a clock of the caller's and somewhere to record spans.
    ///
    /// # Errors
    /// Those of [`App::bind`].
    pub async fn bind_with(config: Config, clock: Clock, tracing: Tracing) -> Result<Self, BindError> {
        let metrics = Arc::new(Metrics::new());
        metrics.config_info.with_label_values(&[overflow_label(config.mailbox.overflow)]).set(1);
        let memory_limit = machine::memory_limit_bytes().and_then(|bytes| i64::try_from(bytes).ok());
        metrics.memory_limit_bytes.set(memory_limit.unwrap_or(0));
        let lifecycle = Lifecycle::new();
        let public = listen(&config, "http.listen", config.http.listen, max_connections(&config), &metrics)?;
        // Its own counters: `gateway_connections` speaks of the public listener.
        let operators =
            listen(&config, "ops.listen", config.ops.listen, MAX_OPS_CONNECTIONS, &Arc::new(Metrics::new()))?;

        let log = open_log(&config, &clock).await?;
        let durability = log.durability();
        let options = delivery_options(&config, tracing);
        let delivery = Delivery::start(log, options, clock, Arc::clone(&metrics), &lifecycle).await?;

        let endpoint = public_endpoint(&config, &delivery, &metrics, &lifecycle, public.hang_ups());
        let ops = ops::routes(Ops {
            metrics: Arc::clone(&metrics),
            lifecycle: lifecycle.clone(),
            hosts: host_policy(config.ops.listen),
            refresh: refresh(&delivery, &metrics),
            scraping: Arc::default(),
        });
        Ok(Self {
            public: (public, endpoint),
            ops: (operators, ops.map_to_response().boxed()),
            config,
            delivery,
            durability,
            lifecycle,
            metrics,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses { http: self.public.0.address(), ops: self.ops.0.address() }
    }

    /// What an accepted notification survives.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The metrics, for whoever adds the process's own.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Serves until `shutdown` resolves, then stops in order: not ready any more, sockets told to come back later,
    /// requests in flight ended, tasks ended.
    ///
    /// # Errors
    /// [`RunError`] when the gateway crashed, or something did not end within `shutdown.timeout`.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, public, ops, delivery, lifecycle, metrics, .. } = self;
        let timeout = config.shutdown.timeout;
        // Operators can watch the stop: their listener goes last.
        let finished = CancellationToken::new();
        lifecycle.set_ready();
        let serving_ops = tokio::spawn(
            Server::new_with_acceptor(ops.0)
                .http2_max_concurrent_streams(MAX_HTTP2_STREAMS)
                .run_with_graceful_shutdown(ops.1, finished.clone().cancelled_owned(), Some(MIN_END_TIMEOUT)),
        );
        let stopping = lifecycle.clone();
        let serving = tokio::spawn(
            Server::new_with_acceptor(public.0)
                .http2_max_concurrent_streams(MAX_HTTP2_STREAMS)
                .run_with_graceful_shutdown(
                    public.1,
                    async move { stopping.stopping().await },
                    Some(timeout),
                ),
        );

        tokio::select! {
            () = shutdown => {}
            () = lifecycle.stopping() => {}
        }
        let deadline = Instant::now() + timeout;
        lifecycle.stop();
        metrics.draining.set(1);
        delivery.close_all_sessions(CloseCode::Drain);
        // Ends by itself within the timeout that it was given.
        let served = serving.await;
        // What does not get into the log comes again: a disk that hangs must not hold up the end.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, delivery.flush_acks()).await;
        let remaining = deadline.saturating_duration_since(Instant::now()).max(MIN_END_TIMEOUT);
        let all_ended = lifecycle.end(remaining).await;
        finished.cancel();
        let served_ops = serving_ops.await;
        audit(&delivery, &metrics);

        let crashed = lifecycle.has_crashed() || !matches!((served, served_ops), (Ok(Ok(())), Ok(Ok(()))));
        match (crashed, all_ended) {
            (true, _) => Err(RunError::Crashed),
            (false, false) => Err(RunError::Unfinished),
            (false, true) => Ok(()),
        }
    }
}

/// Closes the books: what was accepted is pending or final, to the last one.
fn audit(delivery: &Delivery, metrics: &Metrics) {
    delivery.refresh_metrics();
    let imbalance = metrics.ledger_imbalance.get();
    if imbalance != 0 {
        tracing::error!(imbalance, "the ledger does not balance: this is a bug of the gateway");
    }
    debug_assert_eq!(imbalance, 0, "the ledger does not balance");
}

fn listen(
    config: &Config,
    key: &'static str,
    address: SocketAddr,
    max_connections: usize,
    metrics: &Arc<Metrics>,
) -> Result<BoundListener, BindError> {
    let limits = Limits { max_connections, first_request_timeout: config.http.first_request_timeout };
    BoundListener::bind(address, limits, Arc::clone(metrics)).map_err(|error| BindError::Listen {
        address,
        key,
        error,
    })
}

fn max_connections(config: &Config) -> usize {
    config.http.max_connections.unwrap_or_else(|| {
        // Where the limit cannot be read, a cautious guess serves better than none.
        let (soft, _) = rlimit::Resource::NOFILE.get().unwrap_or((1_024, 1_024));
        listener::connections_for(soft)
    })
}

async fn open_log(config: &Config, clock: &Clock) -> Result<Arc<dyn Log>, OpenError> {
    match &config.log.store {
        LogStore::Disk(directory) => {
            let mut options = DiskOptions::new(directory, Epoch::from_bits(random_bits()));
            options.reserve_bytes = config.log.disk_reserve.0;
            options.new_epoch = config.log.new_epoch;
            let clock = clock.clone();
            let opening = tokio::task::spawn_blocking(|| DiskLog::open(options, clock));
            Ok(Arc::new(opening.await.expect("opening a log does not panic")?))
        }
        LogStore::Memory => {
            // What is in memory is new at every start: so is its epoch.
            let epoch = Epoch::from_bits(random_bits());
            Ok(Arc::new(MemoryLog::new(epoch, clock.clone(), config.log.memory_max_bytes.0)))
        }
    }
}

fn delivery_options(config: &Config, tracing: Tracing) -> DeliveryOptions {
    DeliveryOptions {
        settings: Settings {
            mailbox_max_count: config.mailbox.max_notifications,
            mailbox_max_bytes: config.mailbox.max_bytes.0,
            reject_on_overflow: config.mailbox.overflow == OverflowPolicy::Reject,
            history: config.mailbox.history,
            max_ttl_seconds: whole_seconds(config.notification.max_ttl),
            idempotency_window_seconds: whole_seconds(config.idempotency.window),
            idempotency_max_keys: config.idempotency.max_keys,
            outcome_retention_seconds: whole_seconds(config.outcomes.retention),
            outcome_max_recipients: config.outcomes.max_recipients,
            topic_max_subscribers: config.topics.max_subscribers,
            user_max_topics: config.topics.max_per_user,
        },
        frame_cache_bytes: config.frames.cache.0,
        max_sessions_per_user: config.sessions.max_per_user,
        retention_period: RETENTION_PERIOD,
        tracing,
    }
}

fn public_endpoint(
    config: &Config,
    delivery: &Delivery,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
    hang_ups: &Arc<HangUps>,
) -> BoxEndpoint<'static, Response> {
    // Without keys the mode is open: pages on this machine, such as development servers, are welcome.
    let origins = OriginPolicy::new(&config.http.allowed_origins, true);
    let admission = Admission { origins: origins.clone(), lifecycle: lifecycle.clone() };
    let advice = Arc::new(ReconnectAdvice::new(config.shutdown.reconnect_window, random_bits()));
    let seed = random_bits();
    let streams = Streams {
        delivery: delivery.clone(),
        metrics: Arc::clone(metrics),
        admission: admission.clone(),
        hang_ups: Arc::clone(hang_ups),
        heartbeat: config.sessions.heartbeat,
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
        seed,
        advice,
    };
    let http = Http {
        delivery: delivery.clone(),
        metrics: Arc::clone(metrics),
        lifecycle: lifecycle.clone(),
        hosts: host_policy(config.http.listen),
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
    };
    http::routes(http, (SocketApi(Arc::new(sockets)), StreamApi(Arc::new(streams))))
}

fn host_policy(listen: SocketAddr) -> HostPolicy {
    if listen.ip().is_loopback() { HostPolicy::LoopbackOnly } else { HostPolicy::Any }
}

fn refresh(delivery: &Delivery, metrics: &Arc<Metrics>) -> Arc<dyn Fn() + Send + Sync> {
    let delivery = delivery.clone();
    let metrics = Arc::clone(metrics);
    Arc::new(move || {
        delivery.refresh_metrics();
        metrics.refresh_runtime(&Handle::current());
        if let Some(spans) = delivery.tracing().counts() {
            let lost =
                [(SpanLoss::QueueFull, spans.queue_full()), (SpanLoss::ExportFailed, spans.export_failed())];
            metrics.set_spans(spans.exported(), lost);
        }
    })
}

fn overflow_label(policy: OverflowPolicy) -> &'static str {
    match policy {
        OverflowPolicy::DropOldest => "drop-oldest",
        OverflowPolicy::Reject => "reject",
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn random_bits() -> u64 {
    Uuid::new_v4().as_u64_pair().1.rotate_left(32) ^ Uuid::new_v4().as_u64_pair().0
}
