//! What values have to keep to, alone and together.

use std::time::Duration;

use super::{Config, ConfigError, Values};

/// Checks every rule.
///
/// # Errors
/// The first rule that does not hold.
pub(super) fn check(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let rules = [
        (config.mailbox.max_notifications > 0, "mailbox.max_notifications", "must be at least 1"),
        (config.mailbox.max_notifications <= 1 << 20, "mailbox.max_notifications", "must be at most 1048576"),
        (
            config.mailbox.max_bytes >= config.notification.max_bytes,
            "mailbox.max_bytes",
            "must hold at least one notification of notification.max_bytes",
        ),
        (
            config.notification.max_bytes.0 <= 512 * 1024,
            "notification.max_bytes",
            "must be at most 512KiB: with its recipients a notification has to fit one log entry",
        ),
        (config.notification.default_ttl.as_secs() > 0, "notification.default_ttl", "must be at least 1s"),
        (
            config.notification.default_ttl <= config.notification.max_ttl,
            "notification.default_ttl",
            "must not exceed notification.max_ttl",
        ),
        (config.send.max_recipients > 0, "send.max_recipients", "must be at least 1"),
        (config.send.max_batch > 0, "send.max_batch", "must be at least 1"),
        (config.send.max_batch <= 100_000, "send.max_batch", "must be at most 100000"),
        (config.sessions.max_per_user > 0, "sessions.max_per_user", "must be at least 1"),
        (
            config.sessions.heartbeat >= Duration::from_millis(100),
            "sessions.heartbeat",
            "must be at least 100ms",
        ),
        (
            config.http.allowed_origins.iter().all(|origin| is_origin(origin)),
            "http.allowed_origins",
            "must list origins such as https://app.example or http://10.0.0.7:8080",
        ),
        (
            config.http.allowed_hosts.iter().all(|host| is_host(host)),
            "http.allowed_hosts",
            "must list names such as push.example, without scheme or path",
        ),
        (
            config.http.tls_certificate_file.is_some() == config.http.tls_key_file.is_some(),
            "http.tls_key_file",
            "goes with http.tls_certificate_file: give both or neither",
        ),
        (config.http.max_connections != Some(0), "http.max_connections", "must be at least 1, or auto"),
        (
            config.http.max_connections_per_address != Some(0),
            "http.max_connections_per_address",
            "must be at least 1, or auto",
        ),
        (config.http.max_header.0 >= 1024, "http.max_header", "must be at least 1KiB"),
        (config.http.max_header.0 <= 256 * 1024, "http.max_header", "must be at most 256KiB"),
        (config.http.keep_alive >= Duration::from_secs(1), "http.keep_alive", "must be at least 1s"),
        (
            config.http.keep_alive > config.sessions.heartbeat * 6 / 5,
            "http.keep_alive",
            "must be longer than sessions.heartbeat and a fifth of it, or streams would be closed between two heartbeats",
        ),
        (config.sessions.max_total != Some(0), "sessions.max_total", "must be at least 1, or auto"),
        (
            config.auth.jwks.as_deref().is_none_or(is_file_or_secure_url),
            "auth.jwks",
            "must be a file, or an https URL without a password: keys from http could be anybody's, and URLs stand in logs",
        ),
        (config.auth.jwks_refresh >= Duration::from_secs(1), "auth.jwks_refresh", "must be at least 1s"),
        (config.auth.leeway <= Duration::from_secs(600), "auth.leeway", "must be at most 10m"),
        (
            config.log.stall_timeout >= Duration::from_millis(100),
            "log.stall_timeout",
            "must be at least 100ms",
        ),
        (matches!(config.nats.replicas, 1 | 3 | 5), "nats.replicas", "must be 1, 3 or 5"),
        (
            config.nats.max_age.is_none_or(|max_age| max_age >= config.shortest_stream_age()),
            "nats.max_age",
            "must be longer than notification.max_ttl and outcomes.retention or idempotency.window together, and two days more: \
             what the stream drops must not matter any more",
        ),
        (config.nats.max_bytes.0 >= 64 * 1024 * 1024, "nats.max_bytes", "must be at least 64MiB"),
        (
            config.nats.user.is_some() == config.nats.password_file.is_some(),
            "nats.password_file",
            "goes with nats.user: give both or neither",
        ),
        (
            config.nats.client_certificate_file.is_some() == config.nats.client_key_file.is_some(),
            "nats.client_key_file",
            "goes with nats.client_certificate_file: give both or neither",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        Some((_, key, rule)) => Err(values.error(key, rule)),
        None => refuse_to_be_open_to_the_world(config, values),
    }
}

/// Without keys everybody may send and listen, so nobody from elsewhere may reach the listeners.
fn refuse_to_be_open_to_the_world(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let listeners = [("http.listen", config.http.listen), ("ops.listen", config.ops.listen)];
    // What only a gateway that others reach has: its keys were meant to be there, too.
    let exposed = [
        (!config.http.allowed_hosts.is_empty(), "http.allowed_hosts"),
        (!config.http.trusted_proxies.is_empty(), "http.trusted_proxies"),
    ];
    if config.is_open()
        && !config.http.open_on_any_address
        && let Some((_, key)) = exposed.into_iter().find(|(set, _)| *set)
    {
        return Err(values.error(
            key,
            "is for a gateway that others reach, and without keys they could all send and listen; configure keys \
             (auth.api_keys_file, auth.token_key_files or auth.jwks), or set http.open_on_any_address = true if you really mean it",
        ));
    }
    match listeners.into_iter().find(|(_, address)| !address.ip().is_loopback()) {
        Some((key, _)) if config.is_open() && !config.http.open_on_any_address => Err(values.error(
            key,
            "is no loopback address, and without keys anybody who reaches it could send and listen; \
             configure keys (auth.api_keys_file, auth.token_key_files or auth.jwks), bind 127.0.0.1, or set \
             http.open_on_any_address = true if you really mean it",
        )),
        _ => Ok(()),
    }
}

/// Scheme, host and perhaps a port (RFC 6454 §6.2); nothing that browsers would never send.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.trim_end_matches('/').split_once("://") else { return false };
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
    matches!(scheme, "http" | "https") && !authority.is_empty() && authority.chars().all(plain)
}

/// A name or an address, perhaps with a port.
fn is_host(text: &str) -> bool {
    is_origin(&format!("http://{text}"))
}

/// Plain HTTP only from this machine, where nobody stands between.
fn is_file_or_secure_url(text: &str) -> bool {
    // Print-outs and log lines name the URL.
    if text
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    {
        return false;
    }
    match text.split_once("://") {
        None | Some(("https", _)) => true,
        Some(("http", rest)) => ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| {
            rest.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        }),
        Some(_) => false,
    }
}
