//! Every setting, where its value came from, and whether it makes sense.
//!
//! A setting's value is the first of: flag, `GATEWAY_…` variable, key in the configuration file, default. Everything is
//! parsed and validated before a port is bound. The table in [`settings`] is the single list; `gateway.example.toml` and
//! `check-config --print` are compared with it.

mod parse;
mod rules;
mod sections;
pub mod settings;
mod sources;

use std::time::Duration;

use parse::LONGEST;

pub use parse::{Bytes, Link, LogFormat, LogStore, NatsAddress, Rate, RateLimit};
pub use sections::{
    Auth, Config, Console, Frames, Http, Idempotency, Limits, Log, Mailbox, Nats, Notification, Ops,
    Outcomes, Send, Sessions, Shutdown, Telemetry, Topics, Trace,
};
pub use settings::{SETTINGS, Setting};
pub use sources::{Source, Sources, Values, shown};

/// The exit code of a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
pub const EX_CONFIG: u8 = 78;

/// What a stream keeps beyond what is needed: in it what still holds is said again.
const STREAM_MARGIN: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Why the configuration cannot be used: one readable line that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

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
        let config = Self::parse(values)?;
        rules::check(&config, values)?;
        Ok(config)
    }

    /// Whether nobody needs a credential: no keys are configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.auth.api_keys_file.is_none() && self.auth.token_key_files.is_empty() && self.auth.jwks.is_none()
    }
}

impl Config {
    /// What a stream must keep at least: by then everything has expired, nobody asks for its outcome or repeats its request,
    /// and what still holds was said again.
    pub(crate) fn shortest_stream_age(&self) -> Duration {
        let remembered = self.outcomes.retention.max(self.idempotency.window);
        (self.notification.max_ttl + remembered + STREAM_MARGIN).min(LONGEST)
    }

    /// How long the stream keeps an entry.
    pub(crate) fn stream_max_age(&self) -> Duration {
        let twice = (2 * (self.shortest_stream_age() - STREAM_MARGIN) + STREAM_MARGIN).min(LONGEST);
        self.nats.max_age.unwrap_or(twice)
    }
}

#[cfg(test)]
mod tests;
