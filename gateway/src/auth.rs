//! Who may do what.
//!
//! Without keys the gateway is in *open* mode: everybody who reaches its loopback listener may send and listen. What keeps
//! web pages of strangers out then is the browser's own word: `Host` (against DNS rebinding) and `Origin`. With keys nobody
//! does anything without a credential: senders and administrators show an API key, receivers a token (JWT, RFC 7519).
//!
//! Credentials are checked here and nowhere else, and no part of one is ever printed. Keys are read again when their files
//! change; what cannot be read leaves those of before in force.

pub mod api_keys;
mod caller;
mod credential;
mod files;
mod jwks;
pub mod origin;
mod token_keys;
mod tokens;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Rate};
use crate::domain::{Secret, UserId};
use crate::limits::{Buckets, Denied};
use crate::metrics::{AuthRefusal, Limit, Metrics};

use api_keys::ApiKeys;
pub use caller::{Authority, Caller, Lapse, Permission, TokenUser};
pub use credential::{credential_in_url, credential_of, credential_of_session};
pub use origin::{HostPolicy, OriginPolicy, host};
pub use token_keys::SigningKey;
use tokens::Tokens;
pub use tokens::{Mint, mint};

/// Notifications one API key may send unless somebody says otherwise.
const SENDS_PER_KEY: Rate = Rate::per_second(5_000, 20_000);

/// Notifications one user may send unless somebody says otherwise.
const SENDS_PER_USER: Rate = Rate::per_second(10, 100);

/// How often the files of keys are looked at: twice before a change counts, and that within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How often users whose buckets are full again are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// Checks credentials. Each clone is the same authenticator.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    open: bool,
    api_keys: Option<ApiKeys>,
    tokens: Option<Tokens>,
    user_sends: Option<Buckets<UserId>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Authenticator {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be read or holds no keys; the message names its setting. A URL of keys is not asked here.
    pub fn load(config: &Config, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, ConfigError> {
        let sends = config.limits.sends_per_key.or(Some(SENDS_PER_KEY));
        let api_keys =
            config.auth.api_keys_file.as_deref().map(|file| ApiKeys::load(file, sends)).transpose()?;
        let has_tokens = !config.auth.token_key_files.is_empty() || config.auth.jwks.is_some();
        Ok(Self(Arc::new(Inner {
            open: config.is_open(),
            api_keys,
            tokens: has_tokens.then(|| Tokens::load(&config.auth)).transpose()?,
            user_sends: config.limits.sends_per_user.or(Some(SENDS_PER_USER)).map(Buckets::new),
            clock,
            metrics,
        })))
    }

    /// Whether nobody needs a credential.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.open
    }

    /// Who shows this credential. May wait some seconds for keys that a token names and nobody knows yet.
    ///
    /// # Errors
    /// Why nobody is known by it; counted by the caller.
    pub async fn caller(&self, credential: Option<&Secret>) -> Result<Caller, AuthRefusal> {
        let inner = &*self.0;
        if inner.open {
            return Ok(Caller::Anybody);
        }
        let credential = credential.ok_or(AuthRefusal::Missing)?;
        if api_keys::is_api_key(credential.expose()) {
            let keys = inner.api_keys.as_ref().ok_or(AuthRefusal::UnknownKey)?;
            return keys.verify(credential.expose()).map(Caller::Key);
        }
        let tokens = inner.tokens.as_ref().ok_or(AuthRefusal::UnknownSigner)?;
        tokens.verify(credential, &inner.clock).await.map(Caller::User)
    }

    /// Takes `count` notifications from what the caller may send.
    ///
    /// # Errors
    /// How long until it may send that many, or that it never may at once; counted here.
    pub fn take_sends(&self, caller: &Caller, count: usize) -> Result<(), Denied> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (taken, limit) = match caller {
            Caller::Anybody => return Ok(()),
            Caller::Key(key) => (key.take_sends(count), Limit::SendsPerKey),
            Caller::User(user) => {
                let buckets = self.0.user_sends.as_ref();
                (buckets.map_or(Ok(()), |buckets| buckets.take(&user.user, count)), Limit::SendsPerUser)
            }
        };
        taken.inspect_err(|_| self.0.metrics.limited.of(limit).inc_by(u64::from(count)))
    }

    /// Users whose sends are remembered; forgotten some seconds after their buckets are full again.
    #[must_use]
    pub fn remembered_users(&self) -> usize {
        self.0.user_sends.as_ref().map_or(0, Buckets::len)
    }

    /// Keeps the keys up to date: what is to run as long as the gateway does. `None`: there is nothing to keep.
    #[must_use]
    pub fn keeping(&self) -> Option<impl Future<Output = std::convert::Infallible> + Send + use<>> {
        let authenticator = self.clone();
        let keeping = async move {
            let inner = &*authenticator.0;
            let fetching = async {
                match &inner.tokens {
                    Some(tokens) => tokens.keep_fetching(&inner.metrics).await,
                    None => std::future::pending().await,
                }
            };
            let looking = async {
                let mut interval = tokio::time::interval(LOOK_EVERY);
                loop {
                    interval.tick().await;
                    authenticator.look_at_files().await;
                }
            };
            let forgetting = async {
                let mut interval = tokio::time::interval(FORGET_EVERY);
                loop {
                    interval.tick().await;
                    inner.user_sends.iter().for_each(Buckets::sweep);
                }
            };
            tokio::select! {
                never = fetching => never,
                never = looking => never,
                never = forgetting => never,
            }
        };
        (!self.is_open()).then_some(keeping)
    }

    /// Reads the files of keys again, on a thread that may wait for a disk.
    async fn look_at_files(&self) {
        let authenticator = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let Inner { api_keys, tokens, metrics, .. } = &*authenticator.0;
            if let Some(keys) = api_keys {
                keys.look_again(metrics);
            }
            if let Some(tokens) = tokens {
                tokens.look_again(metrics);
            }
        });
        if looking.await.is_err() {
            tracing::error!("reading keys again panicked; those of before hold");
        }
    }
}
