//! From a configuration to a log that is read and nodes that know each other.

use std::sync::Arc;
use std::time::Duration;

use super::open_log::{Opened, Shared, open_log};
use super::{BindError, random_bits};
use crate::clock::Clock;
use crate::config::{Config, LogStore};
use crate::delivery::{Delivery, DeliveryOptions};
use crate::domain::OverflowPolicy;
use crate::lifecycle::Lifecycle;
use crate::log::Durability;
use crate::log::entry::Settings;
use crate::metrics::Metrics;
use crate::presence::{Joining, Others, Presence};
use crate::telemetry::Tracing;

/// How often the log is looked after.
const RETENTION_PERIOD: Duration = Duration::from_secs(1);

/// Opens the log, computes the state, and joins the other nodes if there may be any.
pub(super) async fn start(
    config: &Config,
    clock: Clock,
    tracing: Tracing,
    (metrics, lifecycle): (&Arc<Metrics>, &Lifecycle),
) -> Result<(Delivery, Presence, Durability), BindError> {
    // Until it has answered nobody knows.
    metrics.log_reachable.set(i64::from(!matches!(config.log.store, LogStore::Nats(_))));
    let Opened { log, shared } = open_log(config, &clock).await?;
    metrics.log_reachable.set(1);
    let durability = log.durability();
    let mut options = delivery_options(config, tracing);
    let others = shared.is_some().then(Arc::<Others>::default);
    options.elsewhere = others.clone().map(|others| others as _);
    let delivery = Delivery::start(log, options, clock.clone(), Arc::clone(metrics), lifecycle).await?;
    let presence = match shared.zip(others) {
        None => Presence::alone(delivery.clone()),
        Some((Shared { connection, stream }, others)) => {
            let (node, metrics) = (random_bits(), Arc::clone(metrics));
            let joining = Joining { connection, stream, others, node, metrics, clock };
            Presence::join(joining, delivery.clone(), lifecycle).await?
        }
    };
    Ok((delivery, presence, durability))
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
        starts_over: config.starts_over,
        frame_cache_bytes: config.frames.cache.0,
        max_sessions_per_user: config.sessions.max_per_user,
        retention_period: RETENTION_PERIOD,
        stall_timeout: config.log.stall_timeout,
        tracing,
        elsewhere: None,
    }
}

pub(super) fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
