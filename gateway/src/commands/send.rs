//! `gateway send USER TEXT`: a sender for the terminal.

use serde_json::{Value, json};

use super::{CommandError, http_client};
use crate::domain::Secret;

/// Sends one notification and says in one line what became of it.
///
/// # Errors
/// When the gateway does not answer, or refuses; the line says why.
pub async fn run(
    url: &str,
    user: &str,
    text: &str,
    from: Option<&str>,
    credential: Option<&Secret>,
) -> Result<String, CommandError> {
    let endpoint = format!("{}/v1/notifications", url.trim_end_matches('/'));
    let mut notification = json!({"to": [user], "body": text});
    if let Some(from) = from {
        notification["from"] = from.into();
    }
    let mut request = http_client(&endpoint, reqwest::Client::builder())?.post(&endpoint).json(&notification);
    if let Some(credential) = credential {
        request = request.bearer_auth(credential.expose());
    }
    let answer = request.send().await;
    let response = answer.map_err(|error| {
        let hint = if error.is_connect() { "; is a gateway running there?" } else { "" };
        CommandError(format!("cannot reach {endpoint}{hint}"))
    })?;
    let status = response.status();
    let answer: Value =
        response.json().await.map_err(|error| CommandError(format!("no JSON in the answer: {error}")))?;
    if !status.is_success() {
        let detail = answer["detail"].as_str().unwrap_or("no reason given");
        return Err(CommandError(format!("refused with {status}: {detail}")));
    }
    let online = if answer["online"] == 0 { "not connected, it waits" } else { "connected" };
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Ok(format!("accepted {} at {} ({user} is {online})", text("id"), text("position")))
}
