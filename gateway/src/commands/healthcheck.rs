//! `gateway healthcheck`: for containers, which have no curl.

use std::time::Duration;

use super::{CommandError, http_client};

/// How long the gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks whether the gateway is ready.
///
/// # Errors
/// When it is not, or does not answer within three seconds.
pub async fn run(ops_url: &str) -> Result<(), CommandError> {
    let url = format!("{}/health/ready", ops_url.trim_end_matches('/'));
    let client = http_client(&url, reqwest::Client::builder().timeout(TIMEOUT))?;
    let response = client
        .get(&url)
        .send()
        .await
        .map_err(|error| CommandError(format!("{url} does not answer: {error}")))?;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status();
    let state = response.text().await.unwrap_or_default();
    Err(CommandError(format!("{url} answers {status}: {}", state.trim())))
}
