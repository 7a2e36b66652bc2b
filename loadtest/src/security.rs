//! Credentials and trust: the key that senders show, the tokens that receivers show, and the authority that signed the
//! target's certificate.
//!
//! Everything is read and tried once, by [`Security::load`]: a key that cannot sign is found before the first socket opens.
//! Secrets stay in here; neither `Debug` nor an error shows them, and the header made of one is marked sensitive.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::HeaderValue;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;

use crate::set_up::SetUpError;

/// How long a token holds unless [`Security::with_token_lifetime`] says otherwise.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Who sends when there is no API key.
const SENDER: &str = "loadtest";

/// What a token needs to carry to be allowed to send.
const SEND_SCOPE: &str = "send";

/// What this tool calls itself in requests.
const USER_AGENT: &str = concat!("loadtest/", env!("CARGO_PKG_VERSION"));

/// What to show to the target, and whom to believe that it is the target.
pub struct Security {
    api_key: Option<HeaderValue>,
    signer: Option<Signer>,
    authority: Vec<CertificateDer<'static>>,
    token_lifetime: Duration,
}

struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

impl Security {
    /// Reads the files that are given. Without any of them: no credentials, and the system's trust.
    ///
    /// White space around an API key or a secret is no part of it. A JWT key that is no PEM is the secret of HS256; a PEM
    /// is a private key for RS256 (PKCS#1 or PKCS#8), ES256 or EdDSA (PKCS#8).
    ///
    /// # Errors
    /// [`SetUpError`], naming the file: it cannot be read, is empty, is no header value, cannot sign, or has no certificate.
    pub fn load(
        api_key_file: Option<&Path>,
        jwt_key_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, SetUpError> {
        Ok(Self {
            api_key: api_key_file.map(read_api_key).transpose()?,
            signer: jwt_key_file.map(Signer::read).transpose()?,
            authority: ca_file.map(read_authority).transpose()?.unwrap_or_default(),
            token_lifetime: TOKEN_LIFETIME,
        })
    }

    /// Tokens that hold for this long (whole seconds) instead of 24 hours: a longer run needs it.
    #[must_use]
    pub fn with_token_lifetime(self, token_lifetime: Duration) -> Self {
        Self { token_lifetime, ..self }
    }

    /// The `Authorization` of senders: the API key; without one, a new token whose scope is `send`. `None`: neither is known.
    ///
    /// Ask once for a run: a token costs a signature each time.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.api_key.clone().or_else(|| {
            let token = self.token(SENDER, Some(SEND_SCOPE), Timestamp::now())?;
            bearer(&token)
        })
    }

    /// A new token that opens this user's sockets. `None`: there is no JWT key.
    ///
    /// With HS256 it takes microseconds, with RS256 two to three milliseconds of a core: make them before the connects are timed.
    #[must_use]
    pub fn token_for(&self, user: &str) -> Option<String> {
        self.token(user, None, Timestamp::now())
    }

    fn token(&self, user: &str, scope: Option<&str>, now: Timestamp) -> Option<String> {
        let signer = self.signer.as_ref()?;
        let iat = now.as_second();
        let lifetime = i64::try_from(self.token_lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = Claims { sub: user, iat, exp: iat.saturating_add(lifetime), scope };
        Some(signer.sign(&claims).expect("the key has signed when it was loaded"))
    }

    /// The client for every request of a run: HTTP/1.1, so that each request in flight has a connection of its own; as many
    /// idle connections as were needed at once; no proxy, no redirects, no compression. `timeout` covers a whole request.
    ///
    /// With an authority of its own it trusts that one only, like the sockets that use [`Security::tls`].
    ///
    /// # Errors
    /// [`SetUpError`]: the TLS library refuses the authority, or finds no trust on this system.
    pub fn http_client(&self, timeout: Duration) -> Result<reqwest::Client, SetUpError> {
        let refused = |error: reqwest::Error| SetUpError(format!("cannot set up the HTTP client: {error}"));
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .timeout(timeout)
            .connect_timeout(timeout)
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd();
        if !self.authority.is_empty() {
            let trusted = self.authority.iter().map(|authority| reqwest::Certificate::from_der(authority));
            builder = builder.tls_certs_only(trusted.collect::<Result<Vec<_>, _>>().map_err(refused)?);
        }
        builder.build().map_err(refused)
    }

    /// How sockets do TLS, when the target has an authority of its own. `None`: as the WebSocket library does it, with the
    /// system's trust.
    ///
    /// # Errors
    /// [`SetUpError`]: the authority's certificate is not usable as one.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, SetUpError> {
        if self.authority.is_empty() {
            return Ok(None);
        }
        let refused = |error: rustls::Error| SetUpError(format!("cannot trust the given authority: {error}"));
        let mut roots = RootCertStore::empty();
        for authority in &self.authority {
            roots.add(authority.clone()).map_err(refused)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Security")
            .field("api_key", &self.api_key.is_some())
            .field("algorithm", &self.signer.as_ref().map(|signer| signer.algorithm))
            .field("authorities", &self.authority.len())
            .field("token_lifetime", &self.token_lifetime)
            .finish()
    }
}

impl Signer {
    fn read(path: &Path) -> Result<Self, SetUpError> {
        let bytes = read(path)?;
        let found = if bytes.starts_with(b"-----BEGIN ") {
            let kinds = [
                (Algorithm::RS256, EncodingKey::from_rsa_pem(&bytes)),
                (Algorithm::ES256, EncodingKey::from_ec_pem(&bytes)),
                (Algorithm::EdDSA, EncodingKey::from_ed_pem(&bytes)),
            ];
            kinds.into_iter().find_map(|(algorithm, key)| Some(Self { algorithm, key: key.ok()? }))
        } else {
            Some(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(&bytes) })
        };
        // Only a signature tells a key that can sign from one that merely has the right shape.
        let trial = Claims { sub: SENDER, iat: 0, exp: 0, scope: None };
        found.filter(|signer| signer.sign(&trial).is_some()).ok_or_else(|| {
            let path = path.display();
            SetUpError(format!("{path} is no private key for RS256, ES256 (P-256, PKCS#8) or EdDSA (PKCS#8)"))
        })
    }

    fn sign(&self, claims: &Claims<'_>) -> Option<String> {
        jsonwebtoken::encode(&Header::new(self.algorithm), claims, &self.key).ok()
    }
}

/// The file without white space around what is in it.
fn read(path: &Path) -> Result<Vec<u8>, SetUpError> {
    let bytes = std::fs::read(path)
        .map_err(|error| SetUpError(format!("cannot read {}: {error}", path.display())))?;
    match bytes.trim_ascii() {
        [] => Err(SetUpError(format!("{} is empty", path.display()))),
        trimmed => Ok(trimmed.to_vec()),
    }
}

fn read_api_key(path: &Path) -> Result<HeaderValue, SetUpError> {
    let key = String::from_utf8(read(path)?).ok();
    key.and_then(|key| bearer(&key))
        .ok_or_else(|| SetUpError(format!("{} holds more than one line, or no text", path.display())))
}

fn read_authority(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetUpError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SetUpError(format!("{} holds no certificate in PEM", path.display()))),
    }
}

/// `None`: not what a header may carry.
fn bearer(credential: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {credential}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
