//! The configuration file.

use std::time::Duration;

use gateway::commands::check_config;
use gateway::config::{Config, ConfigError, SETTINGS, Sources, Values};
use gateway::edge::Pace;

const PATH: &str = "gateway.toml";

/// A file that is refused is refused in one line that names the key; one that is accepted says the same in every form, and
/// nothing in it is too large to be counted with.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut sources = Sources::default();
    if let Err(error) = sources.file(PATH, text) {
        return check_error(&error, |message| message.starts_with(PATH));
    }
    let values = match sources.resolve() {
        Ok((values, _)) => values,
        Err(error) => {
            return check_error(&error, |message| message.starts_with("gateway.toml: unknown key `"));
        }
    };
    assert_eq!(texts(&values), texts(&as_file(&values)));
    assert_eq!(texts(&values), texts(&as_variables(&values)));
    let printed = check_config::describe(&values);
    assert_eq!(printed.lines().count(), SETTINGS.len(), "one line for each setting");
    match Config::from_values(&values) {
        Ok(config) => check_sizes(&config),
        Err(error) => check_error(&error, |message| {
            SETTINGS.iter().any(|setting| message.starts_with(&format!("{} = ", setting.key)))
        }),
    }
}

fn check_error(error: &ConfigError, names_the_place: impl Fn(&str) -> bool) {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "one line, nothing that a terminal obeys: {message:?}");
    assert!(names_the_place(&message), "names the place: {message:?}");
}

fn texts(values: &Values) -> Vec<(&str, &str)> {
    values.iter().map(|(key, text, _)| (key, text)).collect()
}

fn as_file(values: &Values) -> Values {
    // Texts of JSON are texts of TOML, but for the one control character that JSON leaves as it is.
    let quoted = |text: &str| serde_json::to_string(text).unwrap().replace('\u{7f}', "\\u007f");
    let file: String = values.iter().map(|(key, text, _)| format!("{key} = {}\n", quoted(text))).collect();
    let mut sources = Sources::default();
    sources.file(PATH, &file).unwrap();
    sources.resolve().unwrap().0
}

fn as_variables(values: &Values) -> Values {
    let mut sources = Sources::default();
    sources.variables(values.iter().map(|(key, text, _)| {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        (setting.variable(), text.to_owned())
    }));
    let (values, warnings) = sources.resolve().unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    values
}

/// Deadlines and sums are computed from these without a second thought.
fn check_sizes(config: &Config) {
    let durations = [
        config.http.first_request_timeout,
        config.http.header_timeout,
        config.http.body_timeout,
        config.http.write_timeout,
        config.http.keep_alive,
        config.auth.jwks_refresh,
        config.auth.leeway,
        config.log.stall_timeout,
        config.notification.default_ttl,
        config.notification.max_ttl,
        config.idempotency.window,
        config.outcomes.retention,
        config.sessions.heartbeat,
        config.sessions.write_timeout,
        config.shutdown.timeout,
        config.shutdown.reconnect_after,
        config.shutdown.reconnect_window,
    ];
    for duration in durations {
        assert!(duration <= Duration::from_secs(u32::MAX.into()), "{duration:?} is never over");
    }
    Pace::new(config.sessions.heartbeat, 7).pause();
    let sizes = [
        config.http.max_body,
        config.http.max_header,
        config.log.memory_max_bytes,
        config.log.disk_reserve,
        config.mailbox.max_bytes,
        config.notification.max_bytes,
        config.sessions.max_inbound_frame,
        config.frames.cache,
        config.limits.memory.unwrap_or(config.http.max_body),
    ];
    for size in sizes {
        assert!(size.0 <= 1 << 60, "{size} overflows where sizes are added up");
    }
}
