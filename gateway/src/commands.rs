//! What `gateway` does beside serving: a listener and a sender for the terminal, and what operators ask for.

pub mod check_config;
pub mod healthcheck;
pub mod key;
pub mod listen;
pub mod send;
pub mod token;

use std::fmt::Display;
use std::path::Path;

use crate::domain::Secret;
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

/// The credential in a file: an API key, or a token. White space around it is no part of it.
///
/// # Errors
/// The file cannot be read, or what is in it is no header's value.
pub fn read_credential(path: &Path) -> Result<Secret, CommandError> {
    let refused =
        |why: &dyn Display| CommandError(format!("cannot use the credential in {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(&"expected one line of visible ASCII characters"));
    }
    Ok(Secret::new(text))
}

/// An HTTP client for `url`. Where there is no TLS no authorities are needed, which a small container lacks.
fn http_client(url: &str, builder: reqwest::ClientBuilder) -> Result<reqwest::Client, CommandError> {
    let builder = if url.starts_with("https:") { builder } else { builder.tls_certs_only([]) };
    builder.no_proxy().build().map_err(|error| CommandError(error.to_string()))
}

/// Percent-encodes a user id as one path segment.
fn path_segment(user: &str) -> String {
    percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).to_string()
}
