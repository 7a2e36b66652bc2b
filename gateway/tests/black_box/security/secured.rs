//! A gateway that asks for credentials, and the ones it knows.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::Config;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::credentials::{ApiKey, Issuer, keys_file};
use super::doors::Place;
use crate::harness::{Answer, Gateway, within};
use crate::process_harness::Folder;

/// How often a condition that has no event of its own is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The file of API keys.
const KEYS: &str = "keys.toml";

/// A gateway with a file of API keys and an issuer of tokens. It is a [`Gateway`] whose own verbs show no credential.
pub(crate) struct Secured {
    gateway: Gateway,
    pub(crate) folder: Folder,
    pub(crate) issuer: Issuer,
    /// The key with which the test itself sends.
    pub(crate) sending: ApiKey,
    pub(crate) reading: ApiKey,
    pub(crate) administrating: ApiKey,
}

impl Deref for Secured {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl Secured {
    /// With tokens by HS256 and the defaults.
    pub(crate) async fn start() -> Self {
        Self::start_with(Issuer::hs256(), |_, _| {}).await
    }

    /// With this issuer and a configuration that `configure` changed; files it needs go into the folder.
    pub(crate) async fn start_with(issuer: Issuer, configure: impl FnOnce(&mut Config, &Folder)) -> Self {
        Self::start_with_clock(Clock::system(), issuer, configure).await
    }

    /// The same, with the time read from `clock`.
    pub(crate) async fn start_with_clock(
        clock: Clock,
        issuer: Issuer,
        configure: impl FnOnce(&mut Config, &Folder),
    ) -> Self {
        let folder = Folder::new();
        let sending = ApiKey::new("orders", &["send"]);
        let reading = ApiKey::new("dashboard", &["read"]);
        let administrating = ApiKey::new("operations", &["admin"]);
        let keys = folder.write(KEYS, &keys_file(&[&sending, &reading, &administrating]));
        let token_key = folder.write("token.key", &issuer.file);
        let gateway = Gateway::start_with_clock(clock, |config| {
            config.auth.api_keys_file = Some(PathBuf::from(keys));
            config.auth.token_key_files = vec![PathBuf::from(token_key)];
            configure(config, &folder);
        })
        .await;
        Self { gateway, folder, issuer, sending, reading, administrating }
    }

    /// A request that shows this credential.
    pub(crate) fn request_of(&self, credential: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(credential)
    }

    /// Posts one notification with this credential.
    pub(crate) async fn send_as(&self, credential: &str, notification: &Value) -> Answer {
        self.post_as(credential, "/v1/notifications", notification).await
    }

    /// Posts JSON with this credential.
    pub(crate) async fn post_as(&self, credential: &str, path: &str, body: &Value) -> Answer {
        Answer::of(self.request_of(credential, Method::POST, path).json(body)).await
    }

    /// Posts a text for one user with the test's own key, which has to be accepted.
    pub(crate) async fn tell(&self, user: &str, text: &str) -> Answer {
        self.send_as(&self.sending.text(), &json!({"to": [user], "body": text})).await.accepted()
    }

    /// Where a receiver may knock, now that something lies in the mailbox.
    pub(crate) async fn place(&self, user: &str) -> Place<'_> {
        let position = self.tell(user, "something to ack").await.position();
        Place { gateway: &self.gateway, user: user.to_owned(), position, parameter: None }
    }

    /// Writes the file of keys anew: at once, as careful people do.
    pub(crate) fn write_keys(&self, keys: &[&ApiKey]) {
        self.replace(KEYS, &keys_file(keys));
    }

    /// Puts another file in the place of one.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let other = self.folder.write(&format!("{name}.new"), text);
        std::fs::rename(other, self.folder.path().join(name)).unwrap();
    }

    /// Waits until credentials were read again from `source` with this `result`, `times` times in all.
    pub(crate) async fn until_reload(&self, source: &str, result: &str, times: f64) {
        let series = format!(r#"gateway_credential_reloads_total{{result="{result}",source="{source}"}}"#);
        self.until_metric(&series, times).await;
    }

    /// How many were refused for this reason.
    pub(crate) async fn refused_because(&self, reason: &str) -> f64 {
        self.metric(&format!(r#"gateway_auth_refused_total{{reason="{reason}"}}"#)).await
    }

    /// How many were refused for whatever reason.
    pub(crate) async fn refused(&self) -> f64 {
        total(&self.metrics_text().await, "gateway_auth_refused_total", "reason=")
    }

    /// Notifications with this result, whoever they were for.
    pub(crate) async fn notifications(&self, result: &str) -> f64 {
        let label = format!(r#"result="{result}""#);
        total(&self.metrics_text().await, "gateway_notifications_total", &label)
    }

    /// Asks again and again until the answer has this status; the last answer.
    pub(crate) async fn until_status(
        &self,
        what: &str,
        status: u16,
        ask: impl Fn() -> RequestBuilder,
    ) -> Answer {
        let reached = async {
            loop {
                let answer = Answer::of(ask()).await;
                if answer.status == status {
                    return answer;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        within(what, reached).await
    }

    /// A request for the user's mailbox with this credential.
    pub(crate) fn pull(&self, user: &str, credential: &str) -> RequestBuilder {
        self.request_of(credential, Method::GET, &format!("/v1/users/{user}/notifications"))
    }

    /// Stops it after a test that closed its sockets.
    pub(crate) async fn stop(self) {
        self.gateway.stop().await;
    }
}

/// The sum of a metric's series whose labels contain `label`.
pub(crate) fn total(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let values = series.filter(|rest| rest.contains(label)).filter_map(|rest| rest.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}
