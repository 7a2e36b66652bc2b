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
    setting(
        "http.allowed_hosts",
        "",
        "Names under which the public listener is reached, as a list: [\"push.example\"]. Requests for others are refused \
         (DNS rebinding). Empty: any, but in open mode on loopback only names of this machine.",
    ),
    setting(
        "http.trusted_proxies",
        "",
        "Addresses or networks of proxies whose X-Forwarded-For is believed, as a list: [\"127.0.0.1\", \"10.0.0.0/8\"].",
    ),
    setting(
        "http.tls_certificate_file",
        "",
        "Certificate chain in PEM: the public listener speaks TLS. Read again when it changes. Empty: no TLS, a proxy does it.",
    ),
    setting("http.tls_key_file", "", "Private key in PEM of the certificate."),
    setting("http.max_body", "8MiB", "The largest request body, in bytes."),
    setting(
        "http.max_header",
        "16KiB",
        "The largest header block of a request, in bytes; a larger one is answered with 431.",
    ),
    setting(
        "http.first_request_timeout",
        "10s",
        "How long a new connection may take until its first request's headers are complete.",
    ),
    setting(
        "http.header_timeout",
        "10s",
        "How long the headers of a later request on the same connection may take once they have begun.",
    ),
    setting("http.body_timeout", "30s", "How long a request's body may take to arrive."),
    setting(
        "http.write_timeout",
        "30s",
        "How long an answer or a stream of events may make no progress because the client takes no bytes.",
    ),
    setting(
        "http.keep_alive",
        "75s",
        "How long a connection may stay open without a byte in either direction; sockets have heartbeats.",
    ),
    setting(
        "http.max_connections",
        "auto",
        "Connections accepted at the same time, sockets included; more wait in the kernel's queue. \
         auto: the limit of open files minus 256.",
    ),
    setting(
        "http.max_connections_per_address",
        "auto",
        "Connections open at the same time from one address (IPv6: one /64), sockets included. auto: a quarter of \
         http.max_connections; in open mode no limit. Trusted proxies and limits.exempt_addresses have none.",
    ),
    setting("ops.listen", "127.0.0.1:9464", "Address of the operator's listener: metrics and health."),
    setting(
        "console.enabled",
        "true",
        "Serve the developers' console at /. It shows nothing that its reader's credential does not allow; without it / leads to \
         the manual.",
    ),
    setting(
        "console.metrics_url",
        "auto",
        "Where the console's link to the metrics leads; whoever reaches the gateway can read the address. auto: in open mode to \
         the operator's listener, if both listeners are on loopback; with keys nowhere. Empty: nowhere.",
    ),
    setting(
        "console.grafana_url",
        "auto",
        "Where the console's link to Grafana leads; whoever reaches the gateway can read the address. auto: in open mode on \
         loopback to http://127.0.0.1:3000, where docker compose starts it; with keys nowhere. Empty: nowhere.",
    ),
    setting(
        "auth.api_keys_file",
        "",
        "File of API keys, made by `gateway key new`, with which senders and administrators show who they are. Read again \
         when it changes. Any key configured here or below ends open mode.",
    ),
    setting(
        "auth.token_key_files",
        "",
        "Keys that receivers' tokens (JWT) are verified with, as a list of files: a public key in PEM (RS256, ES256 or EdDSA, \
         by its kind), or a secret of at least 32 bytes (HS256). Read again when they change.",
    ),
    setting("auth.jwks", "", "A set of such public keys (RFC 7517): a file, or an https URL. Empty: none."),
    setting(
        "auth.jwks_refresh",
        "5m",
        "How often the set of keys is fetched again; sooner when a token names an unknown key.",
    ),
    setting(
        "auth.audience",
        "",
        "Audiences that a token may be for, as a list; one of them has to be its `aud`. Empty: not looked at.",
    ),
    setting(
        "auth.issuer",
        "",
        "Issuers that a token may come from, as a list; one of them has to be its `iss`. Empty: not looked at.",
    ),
    setting(
        "auth.leeway",
        "30s",
        "By how much the clocks of issuer and gateway may differ: tokens hold so much longer, and earlier.",
    ),
    setting(
        "limits.sends_per_key",
        "auto",
        "Notifications one API key may send, a batch's items counted one by one, as 100/s, 600/m or 100/s burst 1000; none: as many \
         as it likes. A batch larger than the burst is refused whole. A key's own `sends` in the file of keys goes before. auto: 5000/s burst 20000.",
    ),
    setting(
        "limits.sends_per_user",
        "auto",
        "Notifications one user may send with a token; a batch larger than the burst is refused whole. auto: 10/s burst 100.",
    ),
    setting(
        "limits.connects_per_address",
        "auto",
        "Connections that may be opened from one address (IPv6: one /64). auto: 100/s burst 2000; in open mode no limit.",
    ),
    setting(
        "limits.session_opens",
        "auto",
        "Sessions that may begin on this node, so that a wave that comes back does not stall everybody else; who is too early \
         is told when to come back. auto: 2000/s burst 4000; in open mode no limit.",
    ),
    setting(
        "limits.inbound_frames",
        "auto",
        "Frames one session may send, pings included; more is answered with 1008. Acks of what it was given since the last one are free. auto: 200/s burst 2000; in open \
         mode no limit.",
    ),
    setting(
        "limits.memory",
        "auto",
        "Resident memory beyond which notifications and sessions are refused (503) until there is less. auto: 75 % of the \
         cgroup's limit, or of the machine's memory.",
    ),
    setting(
        "limits.exempt_addresses",
        "",
        "Addresses or networks whose connects, connections and sessions are not limited, for load generators, as a list.",
    ),
    setting(
        "log.store",
        "disk:./data",
        "Where accepted notifications are kept: disk:DIRECTORY, memory (until the process ends), or for several gateways the \
         stream nats://HOST:PORT,HOST:PORT/STREAM (tls:// for TLS).",
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
        "log.stall_timeout",
        "5s",
        "How long the log may take for one append before the gateway says that it is not ready; it is again once the log moves.",
    ),
    setting(
        "nats.replicas",
        "3",
        "On how many NATS servers the stream keeps each entry: 3 survive the loss of one, 5 of two. 1 for a single server.",
    ),
    setting(
        "nats.max_age",
        "auto",
        "When the stream drops an entry by itself, for the time that no gateway runs: gateways drop earlier what nobody needs. \
         auto: twice what the longest time to live, outcomes and idempotency keys need, and two days.",
    ),
    setting(
        "nats.max_bytes",
        "8GiB",
        "The most the stream holds, in bytes. From nine tenths on no notification is accepted (503).",
    ),
    setting(
        "nats.copy_directory",
        "",
        "Where this gateway keeps its copy of the stream, from which it serves its sessions. It may be removed while the gateway \
         does not run: then it is fetched again. Empty: ./data/nats/STREAM.",
    ),
    setting(
        "nats.connect_timeout",
        "30s",
        "How long a starting gateway waits for NATS, and for the stream to have a leader, before it gives up.",
    ),
    setting("nats.credentials_file", "", "Credentials for NATS as a file of a JWT and its seed (.creds)."),
    setting("nats.user", "", "User for NATS, together with nats.password_file."),
    setting("nats.password_file", "", "File with the password of nats.user."),
    setting("nats.token_file", "", "File with a token for NATS."),
    setting(
        "nats.root_certificates_file",
        "",
        "Certificates in PEM that NATS servers are trusted by, beside those of the system.",
    ),
    setting(
        "nats.client_certificate_file",
        "",
        "Certificate in PEM with which this gateway shows NATS who it is; goes with nats.client_key_file.",
    ),
    setting("nats.client_key_file", "", "Private key in PEM of nats.client_certificate_file."),
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
        "sessions.max_total",
        "auto",
        "Sessions this node holds; one more is told to come back later. auto: 19 of 20 of http.max_connections, so that senders \
         find a place.",
    ),
    setting(
        "sessions.max_inbound_frame",
        "4KiB",
        "The largest frame a client may send; a larger one is answered with 1009. A token that is to be refreshed has to fit.",
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
        "shutdown.reconnect_after",
        "3s",
        "When a successor is expected to accept clients, counted from the moment they are told to leave; at once while other gateways share the log.",
    ),
    setting(
        "shutdown.reconnect_window",
        "15s",
        "A stopping gateway tells its clients to come back evenly spread over this window, which begins at shutdown.reconnect_after.",
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
