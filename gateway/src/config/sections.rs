//! The sections of the configuration, field by field as in the table of settings: the key of a field is its section's name, a
//! dot, and its own name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::parse::{Bytes, Link, LogFormat, LogStore, RateLimit};
use super::{ConfigError, Values};
use crate::domain::OverflowPolicy;

macro_rules! sections {
    ($($name:ident: $section:ident { $($field:ident: $type:ty,)* })*) => {
        /// The effective, validated configuration. Field comments are in [`super::settings::SETTINGS`].
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
        pub struct Config {
            $(pub $name: $section,)*
            /// The positions that clients know mean nothing any more: for a directory restored from a backup. No setting,
            /// because it is meant once.
            pub new_epoch: bool,
            /// This process was a gateway before and begins anew: the settings that apply depends on are in the log already.
            pub starts_over: bool,
        }

        impl Config {
            /// Parses every value.
            pub(super) fn parse(values: &Values) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($name: $section {
                        $($field: values.get(concat!(stringify!($name), ".", stringify!($field)))?,)*
                    },)*
                    new_epoch: false,
                    starts_over: false,
                })
            }
        }

        $(
            #[doc = concat!("The section `", stringify!($name), "`.")]
            #[derive(Debug, Clone)]
            #[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
            pub struct $section { $(pub $field: $type,)* }
        )*
    };
}

sections! {
    http: Http {
        listen: SocketAddr,
        open_on_any_address: bool,
        allowed_origins: Vec<String>,
        allowed_hosts: Vec<String>,
        trusted_proxies: Vec<IpNet>,
        tls_certificate_file: Option<PathBuf>,
        tls_key_file: Option<PathBuf>,
        max_body: Bytes,
        max_header: Bytes,
        first_request_timeout: Duration,
        header_timeout: Duration,
        body_timeout: Duration,
        write_timeout: Duration,
        keep_alive: Duration,
        max_connections: Option<usize>,
        max_connections_per_address: Option<usize>,
    }
    ops: Ops { listen: SocketAddr, }
    console: Console { enabled: bool, metrics_url: Link, grafana_url: Link, }
    auth: Auth {
        api_keys_file: Option<PathBuf>,
        token_key_files: Vec<PathBuf>,
        jwks: Option<String>,
        jwks_refresh: Duration,
        audience: Vec<String>,
        issuer: Vec<String>,
        leeway: Duration,
    }
    limits: Limits {
        sends_per_key: RateLimit,
        sends_per_user: RateLimit,
        connects_per_address: RateLimit,
        session_opens: RateLimit,
        inbound_frames: RateLimit,
        memory: Option<Bytes>,
        exempt_addresses: Vec<IpNet>,
    }
    log: Log {
        store: LogStore,
        memory_max_bytes: Bytes,
        disk_reserve: Bytes,
        stall_timeout: Duration,
    }
    nats: Nats {
        replicas: u32,
        max_age: Option<Duration>,
        max_bytes: Bytes,
        copy_directory: Option<PathBuf>,
        connect_timeout: Duration,
        credentials_file: Option<PathBuf>,
        user: Option<String>,
        password_file: Option<PathBuf>,
        token_file: Option<PathBuf>,
        root_certificates_file: Option<PathBuf>,
        client_certificate_file: Option<PathBuf>,
        client_key_file: Option<PathBuf>,
    }
    mailbox: Mailbox {
        max_notifications: u32,
        max_bytes: Bytes,
        history: u32,
        overflow: OverflowPolicy,
    }
    notification: Notification { max_bytes: Bytes, default_ttl: Duration, max_ttl: Duration, }
    idempotency: Idempotency { window: Duration, max_keys: u32, }
    outcomes: Outcomes { retention: Duration, max_recipients: u32, }
    topics: Topics { max_subscribers: u32, max_per_user: u32, }
    send: Send { max_recipients: usize, max_batch: usize, }
    sessions: Sessions {
        max_per_user: usize,
        max_total: Option<usize>,
        max_inbound_frame: Bytes,
        heartbeat: Duration,
        write_timeout: Duration,
    }
    frames: Frames { cache: Bytes, }
    shutdown: Shutdown {
        timeout: Duration,
        reconnect_after: Duration,
        reconnect_window: Duration,
    }
    telemetry: Telemetry { filter: String, format: LogFormat, }
    trace: Trace { trust_remote_sampling: bool, }
}
