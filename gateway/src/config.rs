//! Every setting, where its value came from, and whether it makes sense.
//!
//! A setting's value is the first of: flag, `GATEWAY_…` variable, key in the configuration file, default. Everything is
//! parsed and validated before a port is bound. The table in [`settings`] is the single list; `gateway.example.toml` and
//! `check-config --print` are compared with it.

mod parse;
pub mod settings;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::OverflowPolicy;

pub use parse::Bytes;
pub use settings::{SETTINGS, Setting};
pub use sources::{Source, Sources, Values};

/// The exit code of a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
pub const EX_CONFIG: u8 = 78;

/// Why the configuration cannot be used: one readable line that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The effective, validated configuration. Field comments are in [`settings::SETTINGS`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Config {
    pub http: Http,
    pub ops: Ops,
    pub log: Log,
    pub mailbox: Mailbox,
    pub notification: Notification,
    pub idempotency: Idempotency,
    pub outcomes: Outcomes,
    pub topics: Topics,
    pub send: Send,
    pub sessions: Sessions,
    pub frames: Frames,
    pub shutdown: Shutdown,
    pub telemetry: Telemetry,
    pub trace: Trace,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Http {
    pub listen: SocketAddr,
    pub open_on_any_address: bool,
    pub allowed_origins: Vec<String>,
    pub max_body: Bytes,
    pub first_request_timeout: Duration,
    pub body_timeout: Duration,
    pub max_connections: Option<usize>,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Ops {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Log {
    pub store: LogStore,
    pub memory_max_bytes: Bytes,
    pub disk_reserve: Bytes,
    /// The positions that clients know mean nothing any more: for a directory restored from a backup. No setting, because it
    /// is meant once.
    pub new_epoch: bool,
}

/// Which log holds the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStore {
    /// In this process's memory.
    Memory,
    /// In this directory.
    Disk(PathBuf),
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Mailbox {
    pub max_notifications: u32,
    pub max_bytes: Bytes,
    pub history: u32,
    pub overflow: OverflowPolicy,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Notification {
    pub max_bytes: Bytes,
    pub default_ttl: Duration,
    pub max_ttl: Duration,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Idempotency {
    pub window: Duration,
    pub max_keys: u32,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Outcomes {
    pub retention: Duration,
    pub max_recipients: u32,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Topics {
    pub max_subscribers: u32,
    pub max_per_user: u32,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Send {
    pub max_recipients: usize,
    pub max_batch: usize,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Sessions {
    pub max_per_user: usize,
    pub max_inbound_frame: Bytes,
    pub heartbeat: Duration,
    pub write_timeout: Duration,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Frames {
    pub cache: Bytes,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Shutdown {
    pub timeout: Duration,
    pub reconnect_window: Duration,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Telemetry {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented once, in the table of settings")]
pub struct Trace {
    pub trust_remote_sampling: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

impl Config {
    /// The defaults, with both listeners on a free port of loopback and the log in memory: what tests start from.
    #[must_use]
    pub fn for_tests() -> Self {
        let mut sources = Sources::default();
        sources.flag("http.listen", "127.0.0.1:0");
        sources.flag("ops.listen", "127.0.0.1:0");
        sources.flag("log.store", "memory");
        let (values, _) = sources.resolve().expect("the defaults are known keys");
        Self::from_values(&values).expect("the defaults are valid")
    }

    /// Parses and validates.
    ///
    /// # Errors
    /// The first value that does not parse or does not go with another; the message names its key and where it came from.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let config = Self {
            http: Http {
                listen: values.get("http.listen")?,
                open_on_any_address: values.get("http.open_on_any_address")?,
                allowed_origins: values.get("http.allowed_origins")?,
                max_body: values.get("http.max_body")?,
                first_request_timeout: values.get("http.first_request_timeout")?,
                body_timeout: values.get("http.body_timeout")?,
                max_connections: values.get("http.max_connections")?,
            },
            ops: Ops { listen: values.get("ops.listen")? },
            log: Log {
                store: values.get("log.store")?,
                memory_max_bytes: values.get("log.memory_max_bytes")?,
                disk_reserve: values.get("log.disk_reserve")?,
                new_epoch: false,
            },
            mailbox: Mailbox {
                max_notifications: values.get("mailbox.max_notifications")?,
                max_bytes: values.get("mailbox.max_bytes")?,
                history: values.get("mailbox.history")?,
                overflow: values.get("mailbox.overflow")?,
            },
            notification: Notification {
                max_bytes: values.get("notification.max_bytes")?,
                default_ttl: values.get("notification.default_ttl")?,
                max_ttl: values.get("notification.max_ttl")?,
            },
            idempotency: Idempotency {
                window: values.get("idempotency.window")?,
                max_keys: values.get("idempotency.max_keys")?,
            },
            outcomes: Outcomes {
                retention: values.get("outcomes.retention")?,
                max_recipients: values.get("outcomes.max_recipients")?,
            },
            topics: Topics {
                max_subscribers: values.get("topics.max_subscribers")?,
                max_per_user: values.get("topics.max_per_user")?,
            },
            send: Send {
                max_recipients: values.get("send.max_recipients")?,
                max_batch: values.get("send.max_batch")?,
            },
            sessions: Sessions {
                max_per_user: values.get("sessions.max_per_user")?,
                max_inbound_frame: values.get("sessions.max_inbound_frame")?,
                heartbeat: values.get("sessions.heartbeat")?,
                write_timeout: values.get("sessions.write_timeout")?,
            },
            frames: Frames { cache: values.get("frames.cache")? },
            shutdown: Shutdown {
                timeout: values.get("shutdown.timeout")?,
                reconnect_window: values.get("shutdown.reconnect_window")?,
            },
            trace: Trace { trust_remote_sampling: values.get("trace.trust_remote_sampling")? },
            telemetry: Telemetry {
                filter: values.get("telemetry.filter")?,
                format: values.get("telemetry.format")?,
            },
        };
        config.validate(values)?;
        Ok(config)
    }

    fn validate(&self, values: &Values) -> Result<(), ConfigError> {
        let rules = [
            (self.mailbox.max_notifications > 0, "mailbox.max_notifications", "must be at least 1"),
            (
                self.mailbox.max_notifications <= 1 << 20,
                "mailbox.max_notifications",
                "must be at most 1048576",
            ),
            (
                self.mailbox.max_bytes >= self.notification.max_bytes,
                "mailbox.max_bytes",
                "must hold at least one notification of notification.max_bytes",
            ),
            (
                self.notification.max_bytes.0 <= 512 * 1024,
                "notification.max_bytes",
                "must be at most 512KiB: with its recipients a notification has to fit one log entry",
            ),
            (self.notification.default_ttl.as_secs() > 0, "notification.default_ttl", "must be at least 1s"),
            (
                self.notification.default_ttl <= self.notification.max_ttl,
                "notification.default_ttl",
                "must not exceed notification.max_ttl",
            ),
            (
                u32::try_from(self.notification.max_ttl.as_secs()).is_ok(),
                "notification.max_ttl",
                "must be less than 136 years",
            ),
            (self.send.max_recipients > 0, "send.max_recipients", "must be at least 1"),
            (self.send.max_batch > 0, "send.max_batch", "must be at least 1"),
            (self.send.max_batch <= 100_000, "send.max_batch", "must be at most 100000"),
            (self.sessions.max_per_user > 0, "sessions.max_per_user", "must be at least 1"),
            (
                self.sessions.heartbeat >= Duration::from_millis(100),
                "sessions.heartbeat",
                "must be at least 100ms",
            ),
            (
                self.http.allowed_origins.iter().all(|origin| is_origin(origin)),
                "http.allowed_origins",
                "must list origins such as https://app.example or http://10.0.0.7:8080",
            ),
            (self.http.max_connections != Some(0), "http.max_connections", "must be at least 1, or auto"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, rule)) => Err(values.error(key, rule)),
            None => self.refuse_to_be_open_to_the_world(values),
        }
    }

    /// Without keys everybody may send and listen, so nobody from elsewhere may reach the listeners.
    fn refuse_to_be_open_to_the_world(&self, values: &Values) -> Result<(), ConfigError> {
        let listeners = [("http.listen", self.http.listen), ("ops.listen", self.ops.listen)];
        match listeners.into_iter().find(|(_, address)| !address.ip().is_loopback()) {
            Some((key, _)) if !self.http.open_on_any_address => Err(values.error(
                key,
                "is no loopback address, and without keys anybody who reaches it could send and listen; \
                 bind 127.0.0.1, or set http.open_on_any_address = true if you really mean it",
            )),
            _ => Ok(()),
        }
    }
}

/// Scheme, host and perhaps a port (RFC 6454 §6.2); nothing that browsers would never send.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.trim_end_matches('/').split_once("://") else { return false };
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
    matches!(scheme, "http" | "https") && !authority.is_empty() && authority.chars().all(plain)
}

#[cfg(test)]
mod tests;
