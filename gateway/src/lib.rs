//! scaffold
pub mod auth;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod edge;
pub mod http;
pub mod lifecycle;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod ops;
pub mod protocol;
pub mod registry;
pub mod telemetry;
pub mod ws;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this build was made from, if known.
pub const REVISION: &str = "unknown";
