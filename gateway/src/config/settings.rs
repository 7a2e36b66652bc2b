//! The table of settings.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the configuration file, `section.key`.
    pub key: &'static str,
    /// The value when nobody says otherwise.
    pub default: &'static str,
    /// What it does, with its unit and limits.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable that sets it: `GATEWAY_` and the key in capitals.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("GATEWAY_{}", self.key.replace('.', "_").to_uppercase())
    }
}

const fn setting(key: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, default, help }
}

/// Every setting there is, in the order of `gateway.example.toml`.
pub const SETTINGS: &[Setting] = &[
    setting("http.listen", "127.0.0.1:8000", "Address of the public listener: API, sockets, Swagger UI."),
    setting(
        "http.open_on_any_address",
        "false",
        "Start although a listener is not on loopback and no keys are configured: anybody who reaches it may send and listen.",
    ),
    setting(
        "http.allowed_origins",
        "",
        "Web origins beside the gateway's own whose pages may send and listen, as a list: [\"https://app.example\"]. \
         In open mode http://localhost and http://127.0.0.1 with any port are allowed too.",
    ),
    setting("http.max_body", "8MiB", "The largest request body, in bytes."),
    setting(
        "http.first_request_timeout",
        "10s",
        "How long a new connection may take until its first request's headers are complete.",
    ),
    setting("http.body_timeout", "30s", "How long a request's body may take to arrive."),
    setting(
        "http.max_connections",
        "auto",
        "Connections accepted at the same time, sockets included; more wait in the kernel's queue. \
         auto: the limit of open files minus 256.",
    ),
    setting("ops.listen", "127.0.0.1:9464", "Address of the operator's listener: metrics and health."),
    setting(
        "log.store",
        "disk:./data",
        "Where accepted notifications are kept: disk:DIRECTORY, or memory (until the process ends).",
    ),
    setting(
        "log.memory_max_bytes",
        "1GiB",
        "The most a log in memory holds. At three quarters the oldest third is given up: what still waits in it is \
         dropped as overflow and announced as a gap.",
    ),
    setting(
        "log.disk_reserve",
        "256MiB",
        "Free space on the disk below which no notification is accepted (503): sockets stay up, and it recovers by itself.",
    ),
    setting(
        "mailbox.max_notifications",
        "1000",
        "Notifications one mailbox holds, pending ones and the history of acked ones together.",
    ),
    setting("mailbox.max_bytes", "1MiB", "Bytes of frames one mailbox holds."),
    setting(
        "mailbox.history",
        "100",
        "Acked notifications that stay readable for a user's other devices; the first to go when a mailbox is full.",
    ),
    setting(
        "mailbox.overflow",
        "drop-oldest",
        "What a full mailbox does: drop-oldest (the lowest priority first, announced as a gap) or reject (the sender is told).",
    ),
    setting("notification.max_bytes", "32KiB", "The largest notification, in bytes of its encoded frame."),
    setting(
        "notification.default_ttl",
        "24h",
        "How long a notification waits for its recipient if the sender does not say.",
    ),
    setting("notification.max_ttl", "7d", "The longest time to live a sender may ask for."),
    setting("idempotency.window", "24h", "How long an Idempotency-Key is remembered."),
    setting("idempotency.max_keys", "1000000", "Idempotency-Keys that are remembered; the oldest go first."),
    setting(
        "outcomes.retention",
        "1h",
        "How long the outcome of a notification can be asked for once it is final for every recipient.",
    ),
    setting(
        "outcomes.max_recipients",
        "2000000",
        "Recipients whose outcomes are remembered: a notification with so many recipients or log entries after it is forgotten.",
    ),
    setting("topics.max_subscribers", "100000", "Users who may subscribe to one topic."),
    setting("topics.max_per_user", "1000", "Topics one user may subscribe to."),
    setting("send.max_recipients", "10000", "Users one notification may name."),
    setting("send.max_batch", "1000", "Notifications one batch request may carry."),
    setting(
        "sessions.max_per_user",
        "16",
        "Sockets one user may hold; one more closes the one that was silent the longest with 4009.",
    ),
    setting(
        "sessions.max_inbound_frame",
        "4KiB",
        "The largest frame a client may send; a larger one is answered with 1009.",
    ),
    setting(
        "sessions.heartbeat",
        "25s",
        "How often each socket gets a heartbeat frame and a ping, give or take 20 %. One that answers nothing until the \
         next is closed with 4112, unless a full buffer shows that it still reads.",
    ),
    setting(
        "sessions.write_timeout",
        "10s",
        "How long a socket may take no bytes before it is closed with 4108.",
    ),
    setting("frames.cache", "256MiB", "Recent frames kept in memory; older ones are read from the log."),
    setting("shutdown.timeout", "10s", "How long a stopping gateway waits for requests and sockets to end."),
    setting(
        "shutdown.reconnect_window",
        "15s",
        "A stopping gateway tells its clients to come back at random times within this window.",
    ),
    setting(
        "telemetry.filter",
        "info",
        "Which log lines are written: error, warn, info, debug, trace, or a tracing filter directive.",
    ),
    setting("telemetry.format", "auto", "How log lines look: human, json, or auto (human on a terminal)."),
    setting(
        "trace.trust_remote_sampling",
        "false",
        "Whether a sender's traceparent decides if its request is recorded, under a sampler named parentbased_…. If not, \
         OTEL_TRACES_SAMPLER decides, and the sender's trace id is kept. Traces are exported once \
         OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    ),
];
