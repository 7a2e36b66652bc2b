//! What `gateway` does beside serving: a listener and a sender for the terminal, and what operators ask for.

pub mod check_config;
pub mod healthcheck;
pub mod listen;
pub mod send;

use crate::http;
use crate::sse::StreamApi;
use crate::ws::SocketApi;

/// Where the commands find a gateway unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// The operator's listener unless told otherwise.
pub const DEFAULT_OPS_URL: &str = "http://127.0.0.1:9464";

/// Why a command failed: one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

/// The OpenAPI document of this build.
#[must_use]
pub fn openapi() -> String {
    http::document::<(SocketApi, StreamApi)>()
}

/// Percent-encodes a user id as one path segment.
fn path_segment(user: &str) -> String {
    percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).to_string()
}
