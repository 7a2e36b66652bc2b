//! The composition root: a configuration becomes a running gateway.
//!
//! `main` and the tests start the very same [`App`]. Nothing in it is global: many gateways fit into one process.

mod copy_log;
mod listening;
mod open_log;
mod operators;
mod public;
mod run;
mod start;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use operators::Operators;
use poem::Response;
use poem::endpoint::BoxEndpoint;
use public::Parts;
use start::start;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::delivery::{Delivery, StartError};
use crate::domain::OverflowPolicy;
use crate::lifecycle::Lifecycle;
use crate::limits::MemoryAdmission;
use crate::listener::{BoundListener, ClientAddresses, HangUps, Tls, TlsError};
use crate::log::{Durability, NatsError, OpenError};
use crate::machine;
use crate::metrics::{Metrics, Remembered, SpanLoss};
use crate::ops::{Assembled, StateDigest};
use crate::presence::{Presence, PresenceError};
use crate::telemetry::Tracing;

pub use copy_log::{CopyLogError, copy_log};
pub use listening::load_tls;
use listening::{address_rules, listen, max_connections};

/// How much of the memory that there is may be taken before more is refused, in percent.
const MEMORY_ADMISSION_PERCENT: u64 = 75;

/// How often the process's memory is looked at.
const MEMORY_LOOK_PERIOD: Duration = Duration::from_millis(250);

/// A gateway whose ports are bound and whose state is rebuilt, ready to run.
pub struct App {
    config: Config,
    public: (BoundListener, BoxEndpoint<'static, Response>),
    operators: Operators,
    tls: Option<Tls>,
    hang_ups: Arc<HangUps>,
    clients: Arc<ClientAddresses>,
    delivery: Delivery,
    presence: Presence,
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
    /// A file that the configuration names could not be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log in NATS could not be opened.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The log could not be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Other gateways could not be listened to.
    #[error(transparent)]
    Presence(#[from] PresenceError),
}

/// Why a gateway stopped in another way than it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// An essential task ended.
    #[error("an essential task ended; see the log")]
    Crashed,
    /// Requests or sockets did not end within `shutdown.timeout`, or before whoever stops it was in a hurry: they were cut.
    #[error("not everything ended in time; the rest was cut")]
    Unfinished,
    /// The log is not the one that the state was computed from: it ended in order, to be started again at once.
    #[error("the log is not what it was; the gateway has to start over")]
    Outdated,
}

impl App {
    /// Binds the ports and rebuilds the state. Before [`App::run_until`] only operators are answered: that it starts.
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
        Self::bind_counting(config, clock, tracing, Arc::new(Metrics::new())).await
    }

    /// Like [`App::bind_with`], counting in metrics that the caller may have added to.
    ///
    /// # Errors
    /// Those of [`App::bind`]; then nothing of it runs any more, and its ports and its log are free again.
    pub async fn bind_counting(
        config: Config,
        clock: Clock,
        tracing: Tracing,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let tls = load_tls(&config)?;
        let authenticator = Authenticator::load(&config, clock.clone(), Arc::clone(&metrics))?;
        metrics.config_info.with_label_values(&[overflow_label(config.mailbox.overflow)]).set(1);
        let memory_limit = machine::memory_limit_bytes().and_then(|bytes| i64::try_from(bytes).ok());
        metrics.memory_limit_bytes.set(memory_limit.unwrap_or(0));
        let lifecycle = Lifecycle::new();
        let clients = Arc::new(ClientAddresses::new(address_rules(&config)));
        let public = listen(
            ("http.listen", config.http.listen),
            max_connections(&config),
            Arc::clone(&clients),
            Arc::clone(&metrics),
        )?;
        let operators = Operators::serve(&config, &metrics, &lifecycle)?;

        // Large, and done once.
        let started = Box::pin(start(&config, clock, tracing, (&metrics, &lifecycle))).await;
        let (delivery, presence, durability) = match started {
            Ok(started) => started,
            Err(error) => {
                // Whoever tries again finds the log and the port free, and nobody hears what this one said.
                lifecycle.end(run::MIN_END_TIMEOUT).await;
                operators.end().await;
                return Err(error);
            }
        };

        let admission_bytes = memory_admission_bytes(&config);
        let memory = MemoryAdmission::new(admission_bytes);
        metrics.memory_admission_bytes.set(i64::try_from(admission_bytes.unwrap_or(0)).unwrap_or(i64::MAX));
        lifecycle.spawn_essential("memory", watch_memory(memory.clone()));
        if let Some(keeping) = authenticator.keeping() {
            lifecycle.spawn_essential("keys", keeping);
        }
        let refresh = refresh((&delivery, &presence, &clients, &authenticator), &metrics, &lifecycle);
        let hang_ups: Arc<HangUps> = Arc::default();
        let parts = Parts {
            config: &config,
            delivery: &delivery,
            presence: &presence,
            metrics: &metrics,
            lifecycle: &lifecycle,
            hang_ups: &hang_ups,
            authenticator,
            memory,
            clients: Arc::clone(&clients),
            ops: operators.address(),
        };
        let endpoint = public::endpoint(parts);
        operators.assembled(Assembled {
            refresh,
            digest: digest(&delivery),
            durability: durability.describe(),
        });
        Ok(Self {
            public: (public, endpoint),
            operators,
            config,
            tls,
            hang_ups,
            clients,
            delivery,
            presence,
            durability,
            lifecycle,
            metrics,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses { http: self.public.0.address(), ops: self.operators.address() }
    }

    /// Whether nobody needs a credential.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.config.is_open()
    }

    /// Whether the public listener speaks TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether there is a page to begin with.
    #[must_use]
    pub fn has_console(&self) -> bool {
        self.config.console.enabled
    }

    /// Who is connected to the public listener.
    #[must_use]
    pub fn clients(&self) -> &Arc<ClientAddresses> {
        &self.clients
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
}

/// From how many resident bytes on nothing more is accepted.
fn memory_admission_bytes(config: &Config) -> Option<u64> {
    let share = |limit: u64| limit / 100 * MEMORY_ADMISSION_PERCENT;
    config.limits.memory.map(|bytes| bytes.0).or_else(|| machine::memory_limit_bytes().map(share))
}

/// Looks again and again how much memory the process takes.
async fn watch_memory(memory: MemoryAdmission) -> Infallible {
    let mut interval = tokio::time::interval(MEMORY_LOOK_PERIOD);
    loop {
        interval.tick().await;
        let Some(resident_bytes) = machine::resident_bytes() else { continue };
        if memory.note(resident_bytes) {
            let limit_bytes = memory.limit_bytes();
            if memory.is_exceeded() {
                tracing::warn!(
                    resident_bytes,
                    limit_bytes,
                    "memory is short: notifications and sessions are refused"
                );
            } else {
                tracing::info!(resident_bytes, limit_bytes, "there is memory again");
            }
        }
    }
}

fn refresh(
    (delivery, presence, clients, authenticator): (
        &Delivery,
        &Presence,
        &Arc<ClientAddresses>,
        &Authenticator,
    ),
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Arc<dyn Fn() + Send + Sync> {
    let (delivery, metrics, lifecycle) = (delivery.clone(), Arc::clone(metrics), lifecycle.clone());
    let presence = presence.clone();
    let (clients, authenticator) = (Arc::clone(clients), authenticator.clone());
    Arc::new(move || {
        delivery.refresh_metrics();
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.remembered.of(Remembered::Addresses).set(gauge(clients.remembered()));
        metrics.remembered.of(Remembered::Senders).set(gauge(authenticator.remembered_users()));
        metrics.remembered.of(Remembered::OnlineElsewhere).set(gauge(presence.users_elsewhere()));
        metrics.nodes.set(gauge(presence.nodes()));
        run::refresh_metrics(&metrics, &lifecycle);
        metrics.refresh_runtime(&Handle::current());
        if let Some(spans) = delivery.tracing().counts() {
            let lost =
                [(SpanLoss::QueueFull, spans.queue_full()), (SpanLoss::ExportFailed, spans.export_failed())];
            metrics.set_spans(spans.exported(), lost);
        }
    })
}

fn digest(delivery: &Delivery) -> Arc<dyn Fn() -> StateDigest + Send + Sync> {
    let delivery = delivery.clone();
    Arc::new(move || {
        let (epoch, applied, digest) = delivery.digest();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        StateDigest { epoch: epoch.to_string(), applied, digest }
    })
}

fn overflow_label(policy: OverflowPolicy) -> &'static str {
    match policy {
        OverflowPolicy::DropOldest => "drop-oldest",
        OverflowPolicy::Reject => "reject",
    }
}

fn random_bits() -> u64 {
    Uuid::new_v4().as_u64_pair().1.rotate_left(32) ^ Uuid::new_v4().as_u64_pair().0
}
