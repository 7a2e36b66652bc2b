//! Keys that an identity provider publishes at a URL.
//!
//! They are fetched now and then, and at once when a token names a key that is not known: a provider that has just rotated
//! its keys must not turn users away. Strangers who invent names cause at most one fetch in five seconds.

use std::convert::Infallible;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::token_keys::{VerifyingKey, read_key_set};
use crate::config::ConfigError;
use crate::metrics::{CredentialSource, Metrics, ReloadResult};

/// How long a provider may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The least time between two fetches that tokens cause, and between two attempts after a failure.
const MIN_PAUSE: Duration = Duration::from_secs(5);

/// The largest set, in bytes.
const MAX_SET_BYTES: usize = 1 << 20;

/// The keys at a URL.
pub(super) struct RemoteKeys {
    url: String,
    /// As log lines name it: what follows the path may be a secret.
    name: String,
    refresh: Duration,
    client: reqwest::Client,
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
    wanted: Notify,
    fetches: watch::Sender<Fetches>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fetches {
    begun: u64,
    ended: u64,
    /// The last one did.
    failed: bool,
    /// When a token last asked for one, and how many had ended then.
    asked: Option<(Instant, u64)>,
}

impl RemoteKeys {
    /// Prepares fetching; nothing is asked yet.
    pub(super) fn new(url: &str, refresh: Duration) -> Result<Self, ConfigError> {
        let mut client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead away from https.
            .redirect(reqwest::redirect::Policy::none());
        if url.starts_with("http://") {
            // Without TLS nobody has to be trusted, and a container without authorities will do.
            client = client.tls_certs_only([]).no_proxy();
        }
        let client = client.build().map_err(|error| {
            ConfigError(format!(
                "auth.jwks: cannot set up TLS, are there certificates of authorities? {error}"
            ))
        })?;
        Ok(Self {
            name: url.split(['?', '#']).next().unwrap_or(url).to_owned(),
            url: url.to_owned(),
            refresh,
            client,
            keys: RwLock::default(),
            wanted: Notify::new(),
            fetches: watch::Sender::new(Fetches::default()),
        })
    }

    /// The keys of the last fetch that went well.
    pub(super) fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        Arc::clone(&self.keys.read().expect("nothing panics while it holds the keys"))
    }

    /// Waits for a fetch that is under way or begins now; `false` if it fails, or a token caused one a moment ago.
    pub(super) async fn fetched_anew(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        let mut ended = 0;
        let mut comes = false;
        self.fetches.send_if_modified(|fetches| {
            ended = fetches.ended;
            comes = fetches.begun > ended || fetches.asked.is_some_and(|(_, then)| then == ended);
            let asks = !comes && fetches.asked.is_none_or(|(asked, _)| asked.elapsed() >= MIN_PAUSE);
            if asks {
                fetches.asked = Some((Instant::now(), ended));
                self.wanted.notify_one();
                comes = true;
            }
            asks
        });
        if !comes {
            return false;
        }
        let fetched = fetches.wait_for(|fetches| fetches.ended > ended);
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetched).await;
        fetched.is_ok_and(|fetched| fetched.is_ok_and(|fetches| !fetches.failed))
    }

    /// Fetches whenever it is time to.
    pub(super) async fn keep_fetching(&self, metrics: &Metrics) -> Infallible {
        let mut known = Vec::new();
        loop {
            self.fetches.send_modify(|fetches| fetches.begun += 1);
            let result = self.fetch().await;
            let failed = result.is_err();
            match result {
                Ok((bytes, keys)) if bytes != known => {
                    tracing::info!(url = self.name, keys = keys.len(), "the tokens' keys were fetched");
                    *self.keys.write().expect("nothing panics while it holds the keys") = Arc::new(keys);
                    known = bytes;
                    metrics.count_reload(CredentialSource::Jwks, ReloadResult::Changed);
                }
                Ok(_) => metrics.credentials_stale.of(CredentialSource::Jwks).set(0),
                Err(error) => {
                    tracing::error!(
                        url = self.name,
                        error,
                        "the tokens' keys cannot be fetched; those of before hold"
                    );
                    metrics.count_reload(CredentialSource::Jwks, ReloadResult::Failed);
                }
            }
            self.fetches.send_modify(|fetches| {
                fetches.ended += 1;
                fetches.failed = failed;
            });
            let pause = if failed { self.refresh.min(MIN_PAUSE) } else { self.refresh };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    async fn fetch(&self) -> Result<(Vec<u8>, Vec<VerifyingKey>), String> {
        let request = self.client.get(&self.url).send();
        // Without the URL, which the line has anyway.
        let told = |error: reqwest::Error| error.without_url().to_string();
        let mut response = request.await.and_then(reqwest::Response::error_for_status).map_err(told)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_SET_BYTES {
                return Err(format!("it has more than {MAX_SET_BYTES} bytes"));
            }
        }
        let keys = read_key_set(&bytes)?;
        Ok((bytes, keys))
    }
}
