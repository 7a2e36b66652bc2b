//! Log lines: human on a terminal, JSON elsewhere, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogFormat, Telemetry};

/// Whether [`install`] would take these settings.
///
/// # Errors
/// When the filter does not parse.
pub fn check(telemetry: &Telemetry) -> Result<(), ConfigError> {
    filter(telemetry).map(drop)
}

fn filter(telemetry: &Telemetry) -> Result<EnvFilter, ConfigError> {
    EnvFilter::try_new(&telemetry.filter).map_err(|error| {
        ConfigError(format!("telemetry.filter = \"{}\" is not valid: {error}", telemetry.filter))
    })
}

/// Installs the process's log output. Called once, by `main`.
///
/// # Errors
/// When the filter does not parse.
pub fn install(telemetry: &Telemetry) -> Result<(), ConfigError> {
    let filter = filter(telemetry)?
        // poem logs its own start and stop; ours say more.
        .add_directive("poem=warn".parse().expect("a fixed directive parses"));
    let to_terminal = std::io::stderr().is_terminal();
    let json = match telemetry.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !to_terminal,
    };
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(to_terminal).init();
    }
    Ok(())
}
