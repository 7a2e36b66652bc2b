//! Every metric of the gateway, declared once: the doc comment of a field is its help text.
//!
//! Handles are resolved once; labels are closed enums whose every combination exists from the start at 0, so that `rate()`
//! sees the first event. Nothing is ever labelled with a user, an id or a text from outside. Gauges that can be counted at
//! scrape time are counted there.

mod exemplars;
mod labels;
mod make;
pub mod open_metrics;
mod process;

use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use tokio::runtime::Handle;

pub use exemplars::TracedHistogram;
pub use labels::{
    AckSource, AppendFailure, AuthRefusal, CredentialSource, Direction, Label, Limit, OpenResult,
    ReloadResult, Remembered, ResumeOutcome, SendResult, SpanLoss, Stage, Target, Transport,
};
use make::{counter, counters, gauge, histogram, histograms, per_label, registered};
use process::Process;

use crate::domain::{DropReason, Outcome, Priority};
use crate::protocol::{CloseCode, Initiator};

/// Edges for latencies, in seconds; 0.25 is the edge of the objective.
const LATENCY_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Of OpenTelemetry's advice for HTTP durations, in seconds, every second or third edge, since each operation has them all, and
/// one where nearly all of ours are.
const HTTP_SECONDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0];
const FANOUT_RECIPIENTS: &[f64] = &[1.0, 5.0, 25.0, 100.0, 1_000.0, 10_000.0];
const LOG_BATCH_ENTRIES: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0];
const STORED_AGE_SECONDS: &[f64] = &[1.0, 5.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0];
const SESSION_SECONDS: &[f64] = &[1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0, 86_400.0];
const REPLAYED_NOTIFICATIONS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0];
const BATCH_SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The name of the histogram that carries exemplars.
const PUSH_LATENCY: &str = "gateway_push_latency_seconds";

/// A counter for each value of one label.
#[derive(Clone)]
pub struct PerLabel<L: Label, M>(Vec<(L, M)>);

impl<L: Label, M> PerLabel<L, M> {
    /// The handle for this value.
    pub fn of(&self, label: L) -> &M {
        let found = self.0.iter().find(|(known, _)| *known == label);
        &found.expect("every value of a closed label has its handle").1
    }
}

macro_rules! declare {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $make:expr;)*) => {
        /// The gateway's metrics, ready to be counted.
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl Metrics {
            /// Registers every metric in a registry of its own: many gateways can live in one process.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "metrics are made once, at start, on purpose")]
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $field: $type = {
                    let help = concat!($($help),+).trim();
                    let make: fn(&Registry, &str) -> $type = $make;
                    make(&registry, help)
                };)*
                Self { registry, $($field,)* }
            }
        }
    };
}

declare! {
    /// Answers to HTTP requests to the public listener, sockets excluded; a series appears with its first answer.
    http_requests: IntCounterVec = |registry, help| {
        let labels = ["http_request_method", "http_route", "http_response_status_code"];
        registered(registry, IntCounterVec::new(Opts::new("http_server_requests_total", help), &labels))
    };
    /// Duration of the API's operations on notifications: sending, outcomes, pulling, acking; a series appears with its first request.
    http_request_duration: HistogramVec = |registry, help| {
        let labels = ["http_request_method", "http_route"];
        let options = HistogramOpts::new("http_server_request_duration_seconds", help).buckets(HTTP_SECONDS.to_vec());
        registered(registry, HistogramVec::new(options, &labels))
    };
    /// HTTP requests in flight.
    http_active_requests: IntGauge = |registry, help| {
        registered(registry, IntGauge::new("http_server_active_requests", help))
    };
    /// Notifications offered by senders, by what the gateway answered.
    notifications: Vec<(Target, PerLabel<SendResult, IntCounter>)> = |registry, help| {
        let options = Opts::new("gateway_notifications_total", help);
        let vector = registered(registry, IntCounterVec::new(options, &["target", "result"]));
        let per_target = |target: Target| per_label(|result: SendResult| {
            vector.with_label_values(&[target.as_str(), result.as_str()])
        });
        Target::ALL.iter().map(|target| (*target, per_target(*target))).collect()
    };
    /// Recipients of one accepted notification that held a session when it came, on any gateway.
    fanout_recipients: PerLabel<Target, Histogram> = |registry, help| {
        let vector = histograms(registry, "gateway_fanout_recipients", help, FANOUT_RECIPIENTS, "target");
        // What was accepted was understood.
        let known = Target::ALL.iter().filter(|target| **target != Target::Unknown);
        PerLabel(known.map(|target| (*target, vector.with_label_values(&[target.as_str()]))).collect())
    };
    /// Time from acceptance of a notification to a stage of its delivery to a session that was connected when it came: in the mailbox, handed to the kernel, acked by the client (for the last 64 unacked ones of a session).
    push_latency: PerLabel<Stage, TracedHistogram> = |registry, help| {
        let vector = histograms(registry, PUSH_LATENCY, help, LATENCY_SECONDS, "stage");
        per_label(|stage: Stage| {
            TracedHistogram::new(vector.with_label_values(&[stage.as_str()]), LATENCY_SECONDS)
        })
    };
    /// Age of notifications that had waited for a session when it connected, at the time they were written to it.
    stored_delivery_age: Histogram = |registry, help| {
        histogram(registry, "gateway_stored_delivery_age_seconds", help, STORED_AGE_SECONDS)
    };
    /// Notifications put into mailboxes, one for each recipient; grows the same on every node that shares the log.
    mailbox_enqueued: PerLabel<Priority, IntCounter> = |registry, help| {
        counters(registry, "gateway_mailbox_enqueued_total", help, "priority")
    };
    /// Notifications dropped, one for each recipient and exactly once: evicted by overflow or rejected by a full mailbox; counted from the oldest entry in the log, grows the same on every node that shares it.
    mailbox_dropped: PerLabel<DropReason, IntCounter> = |registry, help| {
        counters(registry, "gateway_mailbox_dropped_total", help, "reason")
    };
    /// Notifications whose time to live passed while they waited, one for each recipient; counted from the oldest entry in the log, grows the same on every node that shares it.
    mailbox_expired: IntCounter = |registry, help| counter(registry, "gateway_mailbox_expired_total", help);
    /// Notifications that came to mailboxes, one for each recipient, refused ones included; counted from the oldest entry in the log, and equal to those pending plus all of `gateway_ledger_final_total`; grows the same on every node that shares the log.
    ledger_accepted: IntCounter = |registry, help| counter(registry, "gateway_ledger_accepted_total", help);
    /// Notifications that became final, one for each recipient and exactly once, by outcome; counted from the oldest entry in the log, grows the same on every node that shares it.
    ledger_final: PerLabel<Outcome, IntCounter> = |registry, help| {
        counters(registry, "gateway_ledger_final_total", help, "outcome")
    };
    /// By how much accepted notifications differ from those pending, counted by walking the mailboxes, plus those final. Anything but 0 is a bug of the gateway.
    ledger_imbalance: IntGauge = |registry, help| gauge(registry, "gateway_ledger_imbalance", help);
    /// Notifications pending in mailboxes: accepted, and neither acked nor final in another way; the same on every node that shares the log.
    mailbox_depth: IntGauge = |registry, help| gauge(registry, "gateway_mailbox_depth", help);
    /// Bytes of the frames pending in mailboxes; the same on every node that shares the log.
    mailbox_bytes: IntGauge = |registry, help| gauge(registry, "gateway_mailbox_bytes", help);
    /// The fullest mailbox since the last scrape, as a share of its bound: of notifications or of bytes, whichever is nearer.
    mailbox_high_watermark: Gauge = |registry, help| {
        registered(registry, Gauge::new("gateway_mailbox_high_watermark_ratio", help))
    };
    /// Open sessions.
    sessions: PerLabel<Transport, IntGauge> = |registry, help| {
        let vector = registered(registry, IntGaugeVec::new(Opts::new("gateway_sessions", help), &["transport"]));
        per_label(|transport: Transport| vector.with_label_values(&[transport.as_str()]))
    };
    /// Users with at least one session on this gateway.
    users: IntGauge = |registry, help| gauge(registry, "gateway_users", help);
    /// Gateways that share the log and live, this one included; 1 where the log is its own.
    nodes: IntGauge = |registry, help| gauge(registry, "gateway_nodes", help);
    /// Questions about a user's sessions that another gateway did not answer in time: its sessions were not counted, or not closed.
    nodes_unanswered: IntCounter = |registry, help| counter(registry, "gateway_nodes_unanswered_total", help);
    /// Topics with at least one subscriber; the same on every node that shares the log.
    topics: IntGauge = |registry, help| gauge(registry, "gateway_topics", help);
    /// Subscriptions of users to topics; the same on every node that shares the log.
    memberships: IntGauge = |registry, help| gauge(registry, "gateway_topic_memberships", help);
    /// Users the registry remembers: online here, with something pending, or with a history of acked notifications; but for those online, the same on every node that shares the log.
    known_users: IntGauge = |registry, help| gauge(registry, "gateway_known_users", help);
    /// What strangers can make the gateway remember, by kind: idempotency keys, notifications whose outcome may be asked for, addresses and users whose rate is watched, users who are online on other gateways. Each has a bound, and goes by itself when its time is over. Keys and outcomes are the same on every node that shares the log.
    remembered: PerLabel<Remembered, IntGauge> = |registry, help| {
        let vector = registered(registry, IntGaugeVec::new(Opts::new("gateway_remembered", help), &["kind"]));
        per_label(|kind: Remembered| vector.with_label_values(&[kind.as_str()]))
    };
    /// Attempts to open a session, by result.
    sessions_opened: Vec<(Transport, PerLabel<OpenResult, IntCounter>)> = |registry, help| {
        let options = Opts::new("gateway_sessions_opened_total", help);
        let vector = registered(registry, IntCounterVec::new(options, &["transport", "result"]));
        let per_transport = |transport: Transport| per_label(|result: OpenResult| {
            vector.with_label_values(&[transport.as_str(), result.as_str()])
        });
        Transport::ALL.iter().map(|transport| (*transport, per_transport(*transport))).collect()
    };
    /// Sessions that ended, by close code and by who ended them; 1006 is a connection that broke.
    sessions_closed: IntCounterVec = |registry, help| {
        let options = Opts::new("gateway_sessions_closed_total", help);
        let vector = registered(registry, IntCounterVec::new(options, &["code", "initiator"]));
        for (code, initiator) in labels::close_combinations() {
            vector.with_label_values(&[code, initiator]);
        }
        vector
    };
    /// How sessions began: without a position (fresh), behind one with everything since still there (resumed), behind one with a loss announced (gap), with a position of another epoch (foreign).
    session_resumes: PerLabel<ResumeOutcome, IntCounter> = |registry, help| {
        counters(registry, "gateway_session_resumes_total", help, "outcome")
    };
    /// Notifications that had waited for a session and were handed to it when it came.
    session_replayed: Histogram = |registry, help| {
        histogram(registry, "gateway_session_replayed_notifications", help, REPLAYED_NOTIFICATIONS)
    };
    /// How long sessions lasted.
    session_duration: Histogram = |registry, help| histogram(registry, "gateway_session_duration_seconds", help, SESSION_SECONDS);
    /// Bytes over WebSockets, framing included.
    ws_bytes: PerLabel<Direction, IntCounter> = |registry, help| {
        counters(registry, "gateway_ws_bytes_total", help, "direction")
    };
    /// Notifications written in one flush of a session.
    ws_write_batch: Histogram = |registry, help| histogram(registry, "gateway_ws_write_batch_frames", help, BATCH_SIZES);
    /// Flushes that had to wait because the client's connection took no more bytes.
    ws_write_stalls: IntCounter = |registry, help| counter(registry, "gateway_ws_write_stalls_total", help);
    /// Time from a ping that asks for an ack to its pong: the network, and what the client had still to read before it.
    ping_round_trip: Histogram = |registry, help| {
        histogram(registry, "gateway_ping_round_trip_seconds", help, LATENCY_SECONDS)
    };
    /// Acks that clients sent: answers to pings, frames, requests over HTTP.
    acks: PerLabel<AckSource, IntCounter> = |registry, help| {
        counters(registry, "gateway_acks_total", help, "source")
    };
    /// Gaps announced to sessions, by reason.
    gaps: PerLabel<crate::domain::GapReason, IntCounter> = |registry, help| {
        counters(registry, "gateway_gaps_total", help, "reason")
    };
    /// Duration of one append to the log, a batch of entries.
    log_append: Histogram = |registry, help| histogram(registry, "gateway_log_append_seconds", help, LATENCY_SECONDS);
    /// Entries in one append to the log.
    log_batch: Histogram = |registry, help| histogram(registry, "gateway_log_batch_entries", help, LOG_BATCH_ENTRIES);
    /// Entries that the log did not take, by why; `ambiguous` ones may be in it all the same.
    log_append_errors: PerLabel<AppendFailure, IntCounter> = |registry, help| {
        counters(registry, "gateway_log_append_errors_total", help, "kind")
    };
    /// Entries in the log, or in the stream that gateways share.
    log_entries: IntGauge = |registry, help| gauge(registry, "gateway_log_entries", help);
    /// Bytes of memory or disk that the log takes, or of the stream that gateways share.
    log_bytes: IntGauge = |registry, help| gauge(registry, "gateway_log_bytes", help);
    /// Bytes that the log may still take: free space on its disk, or what is left of its memory, or of its stream or the disk of its
    /// copy, whichever is less.
    log_free_bytes: IntGauge = |registry, help| gauge(registry, "gateway_log_free_bytes", help);
    /// Free bytes below which the log refuses what senders offer; 0 in memory.
    log_reserve_bytes: IntGauge = |registry, help| gauge(registry, "gateway_log_reserve_bytes", help);
    /// Whether the log answers: 0 while NATS cannot be reached or the stream has no leader; 1 with a log of this node's own.
    log_reachable: IntGauge = |registry, help| {
        let gauge = gauge(registry, "gateway_log_reachable", help);
        gauge.set(1);
        gauge
    };
    /// Entries that other nodes appended and this one has not applied yet; 0 with a log of this node's own.
    log_lag_entries: IntGauge = |registry, help| gauge(registry, "gateway_log_lag_entries", help);
    /// For how long this node has not reached what the log held, in seconds; 0 while it keeps up.
    log_lag_seconds: Gauge = |registry, help| {
        registered(registry, Gauge::new("gateway_log_lag_seconds", help))
    };
    /// Connections accepted by the public listener and still open.
    connections: IntGauge = |registry, help| gauge(registry, "gateway_connections", help);
    /// Failed attempts to accept a connection, out of file descriptors for example; each one pauses accepting.
    accept_errors: IntCounter = |registry, help| counter(registry, "gateway_accept_errors_total", help);
    /// Connections closed because their first request did not arrive in time.
    first_request_timeouts: IntCounter = |registry, help| {
        counter(registry, "gateway_first_request_timeouts_total", help)
    };
    /// What limits refused, closed or delayed, by limit: notifications, requests, connections, sessions.
    limited: PerLabel<Limit, IntCounter> = |registry, help| {
        counters(registry, "gateway_limited_total", help, "limit")
    };
    /// Requests and sessions that were refused because of their credential, by why.
    auth_refused: PerLabel<AuthRefusal, IntCounter> = |registry, help| {
        counters(registry, "gateway_auth_refused_total", help, "reason")
    };
    /// Credentials that were read again, by where from and how that ended.
    credential_reloads: Vec<(CredentialSource, PerLabel<ReloadResult, IntCounter>)> = |registry, help| {
        let options = Opts::new("gateway_credential_reloads_total", help);
        let vector = registered(registry, IntCounterVec::new(options, &["source", "result"]));
        let per_source = |source: CredentialSource| per_label(|result: ReloadResult| {
            vector.with_label_values(&[source.as_str(), result.as_str()])
        });
        CredentialSource::ALL.iter().map(|source| (*source, per_source(*source))).collect()
    };
    /// 1 while credentials could not be read when last tried, so that those of before hold; for several files of one source, as of the last one that changed.
    credentials_stale: PerLabel<CredentialSource, IntGauge> = |registry, help| {
        let options = Opts::new("gateway_credentials_stale", help);
        let vector = registered(registry, IntGaugeVec::new(options, &["source"]));
        per_label(|source: CredentialSource| vector.with_label_values(&[source.as_str()]))
    };
    /// Panics in request handlers and sessions; each cost one request or one session. Any is a bug of the gateway.
    panics: IntCounter = |registry, help| counter(registry, "gateway_panics_total", help);
    /// 1 while the gateway is ready: neither starting nor stopping, and its log moves.
    ready: IntGauge = |registry, help| gauge(registry, "gateway_ready", help);
    /// Sessions that are still to be told to leave, or leaving; 0 unless the gateway is stopping.
    drain_remaining: IntGauge = |registry, help| gauge(registry, "gateway_drain_remaining_sessions", help);
    /// Bytes of resident memory beyond which notifications and sessions are refused; 0: nobody knows how much there is.
    memory_admission_bytes: IntGauge = |registry, help| gauge(registry, "gateway_memory_admission_bytes", help);
    /// 1 while the gateway is stopping.
    draining: IntGauge = |registry, help| gauge(registry, "gateway_draining", help);
    /// Bytes of memory that the process may take: the limit of its cgroup, or the machine's memory.
    memory_limit_bytes: IntGauge = |registry, help| gauge(registry, "gateway_memory_limit_bytes", help);
    /// Spans in batches that the collector answered well; what it refused of them stands in a log line.
    spans_exported: IntCounter = |registry, help| counter(registry, "gateway_otel_spans_exported_total", help);
    /// Spans that were not exported, by why: the queue for them was full, or the collector did not take them.
    spans_dropped: PerLabel<SpanLoss, IntCounter> = |registry, help| {
        counters(registry, "gateway_otel_spans_dropped_total", help, "reason")
    };
    /// Worker threads of the tokio runtime.
    tokio_workers: IntGauge = |registry, help| gauge(registry, "tokio_workers", help);
    /// Tasks of the tokio runtime that have not ended.
    tokio_live_tasks: IntGauge = |registry, help| gauge(registry, "tokio_live_tasks", help);
    /// Tasks that are ready and wait in the tokio runtime's global queue.
    tokio_global_queue_depth: IntGauge = |registry, help| gauge(registry, "tokio_global_queue_depth", help);
    /// Time that the tokio runtime's workers were busy, of all of them together.
    tokio_worker_busy: Counter = |registry, help| {
        registered(registry, Counter::new("tokio_worker_busy_seconds_total", help))
    };
    /// How often the tokio runtime's workers found nothing to do and slept.
    tokio_worker_parks: IntCounter = |registry, help| counter(registry, "tokio_worker_parks_total", help);
    /// Always 1; the labels say what runs.
    build_info: IntGauge = |registry, help| {
        let options = Opts::new("gateway_build_info", help);
        let vector = registered(registry, IntGaugeVec::new(options, &["version", "revision"]));
        let info = vector.with_label_values(&[crate::VERSION, crate::REVISION]);
        info.set(1);
        info
    };
    /// Always 1; the label is the policy of full mailboxes.
    config_info: IntGaugeVec = |registry, help| {
        registered(registry, IntGaugeVec::new(Opts::new("gateway_config_info", help), &["overflow_policy"]))
    };
}

impl Metrics {
    /// Adds the process's own numbers: CPU, memory, file descriptors. At most one gateway in a process should.
    pub fn register_process(&self) {
        // A second registration in the same process would only repeat the same numbers.
        let _ = self.registry.register(Box::new(Process::this()));
    }

    /// Brings the ledger's counters up to what was read from the mailboxes.
    pub fn set_ledger(&self, accepted: u64, ended: impl Iterator<Item = (Outcome, u64)>, imbalance: u64) {
        raise(&self.ledger_accepted, accepted);
        for (outcome, total) in ended {
            raise(self.ledger_final.of(outcome), total);
            if let Some(reason) = outcome.drop_reason() {
                raise(self.mailbox_dropped.of(reason), total);
            }
            if outcome == Outcome::Expired {
                raise(&self.mailbox_expired, total);
            }
        }
        self.ledger_imbalance.set(i64::try_from(imbalance).unwrap_or(i64::MAX));
    }

    /// Counts one offered notification.
    pub fn count_send(&self, target: Target, result: SendResult) {
        self.count_sends(target, result, 1);
    }

    /// Counts so many, all answered alike.
    pub fn count_sends(&self, target: Target, result: SendResult, count: usize) {
        let found = self.notifications.iter().find(|(known, _)| *known == target);
        found.expect("every target has its handles").1.of(result).inc_by(count as u64);
    }

    /// Notifications that were answered like this, whomever they addressed.
    #[must_use]
    pub fn sends(&self, result: SendResult) -> u64 {
        self.notifications.iter().map(|(_, results)| results.of(result).get()).sum()
    }

    /// Counts one attempt to open a session.
    pub fn count_open(&self, transport: Transport, result: OpenResult) {
        let found = self.sessions_opened.iter().find(|(known, _)| *known == transport);
        found.expect("every transport has its handles").1.of(result).inc();
    }

    /// Counts credentials that were read again.
    pub fn count_reload(&self, source: CredentialSource, result: ReloadResult) {
        let found = self.credential_reloads.iter().find(|(known, _)| *known == source);
        found.expect("every source has its handles").1.of(result).inc();
        self.credentials_stale.of(source).set(i64::from(result == ReloadResult::Failed));
    }

    /// Counts the end of a session; a code that is not ours is `other`.
    pub fn count_close(&self, code: Option<CloseCode>, initiator: Initiator) {
        let code = match (code, initiator) {
            (Some(code), _) => code.label(),
            (None, Initiator::Network) => labels::BROKEN,
            (None, _) => labels::OTHER,
        };
        self.sessions_closed.with_label_values(&[code, initiator.as_str()]).inc();
    }

    /// Brings the runtime's numbers up to date.
    pub fn refresh_runtime(&self, runtime: &Handle) {
        let runtime = runtime.metrics();
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.tokio_workers.set(gauge(runtime.num_workers()));
        self.tokio_live_tasks.set(gauge(runtime.num_alive_tasks()));
        self.tokio_global_queue_depth.set(gauge(runtime.global_queue_depth()));
        let workers = 0..runtime.num_workers();
        let busy: f64 =
            workers.clone().map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64()).sum();
        self.tokio_worker_busy.inc_by((busy - self.tokio_worker_busy.get()).max(0.0));
        raise(&self.tokio_worker_parks, workers.map(|worker| runtime.worker_park_count(worker)).sum());
    }

    /// Brings what became of spans up to what the exporter counted.
    pub fn set_spans(&self, exported: u64, dropped: impl IntoIterator<Item = (SpanLoss, u64)>) {
        raise(&self.spans_exported, exported);
        for (reason, total) in dropped {
            raise(self.spans_dropped.of(reason), total);
        }
    }

    /// The text exposition format, version 0.0.4.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.expect("a vector takes every byte");
        text
    }

    /// The exposition format of OpenMetrics, version 1.0: the same numbers, with exemplars.
    #[must_use]
    pub fn encode_open_metrics(&self) -> Vec<u8> {
        open_metrics::encode(&self.registry.gather(), |name, labels, bucket| {
            let stage = labels.iter().find(|label| name == PUSH_LATENCY && label.name() == "stage")?;
            let stage = Stage::ALL.iter().find(|known| known.as_str() == stage.value())?;
            self.push_latency.of(*stage).exemplar(bucket)
        })
        .into_bytes()
    }
}

/// Brings a counter up to a total that was counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
