//! Receivers' tokens: JWT (RFC 7519) with the rules of RFC 8725.
//!
//! The signature is the library's; time is ours, so that the gateway has one clock.

use std::path::Path;
use std::sync::{Arc, RwLock};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::caller::TokenUser;
use super::files::{WatchedFile, is_readable_by_others};
use super::jwks::RemoteKeys;
use super::token_keys::{SigningKey, VerifyingKey, read_key_set, read_verifying_key};
use crate::clock::Clock;
use crate::config::{self, ConfigError};
use crate::domain::{Secret, UserId};
use crate::metrics::{AuthRefusal, CredentialSource, Metrics, ReloadResult};

/// What lets a user send.
const SEND_SCOPE: &str = "send";

/// Verifies tokens.
pub(super) struct Tokens {
    rules: Rules,
    files: Vec<KeyFile>,
    remote: Option<RemoteKeys>,
}

/// What a token has to say beside its signature.
struct Rules {
    audience: Vec<String>,
    issuer: Vec<String>,
    leeway_ms: u64,
}

/// A file with one key, or with a set of them.
struct KeyFile {
    file: WatchedFile,
    source: CredentialSource,
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    scope: Option<ScopeClaim>,
}

/// A text with spaces (RFC 8693 §4.2); some issuers write a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
}

impl Tokens {
    /// Reads the keys in files; those at a URL come with [`Tokens::keep_fetching`].
    pub(super) fn load(config: &config::Auth) -> Result<Self, ConfigError> {
        let mut files = Vec::new();
        for path in &config.token_key_files {
            files.push(KeyFile::open(path, CredentialSource::TokenKeys)?);
        }
        let mut remote = None;
        match config.jwks.as_deref() {
            Some(url) if url.contains("://") => remote = Some(RemoteKeys::new(url, config.jwks_refresh)?),
            Some(path) => files.push(KeyFile::open(Path::new(path), CredentialSource::Jwks)?),
            None => {}
        }
        let leeway_ms = u64::try_from(config.leeway.as_millis()).unwrap_or(u64::MAX);
        let rules = Rules { audience: config.audience.clone(), issuer: config.issuer.clone(), leeway_ms };
        Ok(Self { rules, files, remote })
    }

    /// Whose token this is. Waits for the keys of a URL once if the token names one that is not known.
    pub(super) async fn verify(&self, token: &Secret, clock: &Clock) -> Result<Arc<TokenUser>, AuthRefusal> {
        let first = self.verify_now(token, clock.now_ms());
        let (Err(AuthRefusal::UnknownSigner), Some(remote)) = (&first, &self.remote) else { return first };
        let fetched = remote.fetched_anew().await;
        match self.verify_now(token, clock.now_ms()) {
            // A good token of a key that is new must not be called wrong because nobody could ask.
            Err(AuthRefusal::UnknownSigner) if !fetched => Err(AuthRefusal::Unverifiable),
            judged => judged,
        }
    }

    /// Keeps the keys of a URL up to date, for ever.
    pub(super) async fn keep_fetching(&self, metrics: &Metrics) -> std::convert::Infallible {
        match &self.remote {
            Some(remote) => remote.keep_fetching(metrics).await,
            None => std::future::pending().await,
        }
    }

    /// Reads the files again that changed.
    pub(super) fn look_again(&self, metrics: &Metrics) {
        self.files.iter().for_each(|file| file.look_again(metrics));
    }

    fn verify_now(&self, token: &Secret, now_ms: u64) -> Result<Arc<TokenUser>, AuthRefusal> {
        let token = token.expose();
        let header = read_header(token)?;
        let mut refusal = AuthRefusal::UnknownSigner;
        let files = self.files.iter().map(KeyFile::keys);
        for keys in files.chain(self.remote.iter().map(RemoteKeys::keys)) {
            for key in keys.iter().filter(|key| is_candidate(key, &header)) {
                match decode::<Claims>(token, &key.key, &self.rules.validation(key.algorithm)) {
                    Ok(decoded) => return self.rules.judge(decoded.claims, now_ms).map(Arc::new),
                    Err(error) => match refusal_of(error.kind()) {
                        AuthRefusal::Signature => refusal = AuthRefusal::Signature,
                        // The signature was right: no other key will change anything.
                        other => return Err(other),
                    },
                }
            }
        }
        Err(refusal)
    }
}

/// Reads a token's header; an algorithm that the library does not know, `none` above all, is nobody's.
fn read_header(token: &str) -> Result<Header, AuthRefusal> {
    if token.matches('.').count() != 2 {
        return Err(AuthRefusal::Malformed);
    }
    let header = decode_header(token).map_err(|error| match error.kind() {
        ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => AuthRefusal::Malformed,
        _ => AuthRefusal::UnknownSigner,
    })?;
    // RFC 7515 §4.1.11: what is critical and not understood makes the token invalid, and nothing is understood here.
    if header.crit.is_some() || header.extras.inner().contains_key("b64") {
        return Err(AuthRefusal::Malformed);
    }
    Ok(header)
}

fn is_candidate(key: &VerifyingKey, header: &Header) -> bool {
    let named = match (&key.name, &header.kid) {
        (Some(known), Some(wanted)) => known == wanted,
        // A file has no name for its key, and a token may name none.
        (None, _) | (_, None) => true,
    };
    key.algorithm == header.alg && named
}

fn refusal_of(error: &ErrorKind) -> AuthRefusal {
    match error {
        ErrorKind::InvalidSignature
        | ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidRsaKey(_)
        | ErrorKind::InvalidEcdsaKey
        | ErrorKind::InvalidEddsaKey
        | ErrorKind::InvalidKeyFormat
        | ErrorKind::Provider(_) => AuthRefusal::Signature,
        ErrorKind::InvalidAudience => AuthRefusal::Audience,
        ErrorKind::InvalidIssuer => AuthRefusal::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => AuthRefusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => AuthRefusal::Issuer,
        _ => AuthRefusal::Malformed,
    }
}

impl Rules {
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        // Judged below, by the gateway's own clock.
        validation.validate_exp = false;
        let mut required = vec!["sub", "exp"];
        validation.validate_aud = !self.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&self.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn judge(&self, claims: Claims, now_ms: u64) -> Result<TokenUser, AuthRefusal> {
        let user = UserId::parse(&claims.sub).map_err(|_| AuthRefusal::Malformed)?;
        let token = TokenUser {
            user,
            may_send: claims.scope.is_some_and(|scope| scope.has(SEND_SCOPE)),
            expires_at_ms: milliseconds(claims.exp),
            leeway_ms: self.leeway_ms,
        };
        if now_ms >= token.holds_until_ms() {
            return Err(AuthRefusal::Expired);
        }
        if claims.nbf.is_some_and(|nbf| milliseconds(nbf) > now_ms.saturating_add(self.leeway_ms)) {
            return Err(AuthRefusal::NotYetValid);
        }
        Ok(token)
    }
}

/// Seconds since the Unix epoch (RFC 7519 §2, NumericDate), which may have a fraction; what is before it is 0.
fn milliseconds(seconds: f64) -> u64 {
    // A cast keeps to the bounds of its type.
    (seconds * 1_000.0) as u64
}

impl ScopeClaim {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::Text(text) => text.split_ascii_whitespace().any(|scope| scope == wanted),
            Self::List(list) => list.iter().any(|scope| scope == wanted),
        }
    }
}

impl KeyFile {
    fn open(path: &Path, source: CredentialSource) -> Result<Self, ConfigError> {
        let setting = if source == CredentialSource::Jwks { "auth.jwks" } else { "auth.token_key_files" };
        let refused = |why: String| ConfigError(format!("{setting}: cannot use {}: {why}", path.display()));
        let (file, bytes) = WatchedFile::open(path).map_err(|error| refused(error.to_string()))?;
        let keys = read(source, &bytes).map_err(refused)?;
        let is_secret = keys.iter().any(|key| key.algorithm == Algorithm::HS256);
        if is_secret && is_readable_by_others(path) {
            tracing::warn!(path = %path.display(), "everybody on this machine may read the secret that tokens are signed with");
        }
        Ok(Self { file, source, keys: RwLock::new(Arc::new(keys)) })
    }

    fn keys(&self) -> Arc<Vec<VerifyingKey>> {
        Arc::clone(&self.keys.read().expect("nothing panics while it holds the keys"))
    }

    fn look_again(&self, metrics: &Metrics) {
        let Some(bytes) = self.file.changed() else { return };
        let path = self.file.path().display();
        match bytes.and_then(|bytes| read(self.source, &bytes)) {
            Ok(keys) => {
                *self.keys.write().expect("nothing panics while it holds the keys") = Arc::new(keys);
                metrics.count_reload(self.source, ReloadResult::Changed);
                tracing::info!(%path, "the tokens' keys were read again");
            }
            Err(error) => {
                metrics.count_reload(self.source, ReloadResult::Failed);
                tracing::error!(%path, error, "the tokens' keys cannot be read again; those of before hold");
            }
        }
    }
}

fn read(source: CredentialSource, bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    match source {
        CredentialSource::Jwks => read_key_set(bytes),
        _ => read_verifying_key(bytes).map(|key| vec![key]),
    }
}

/// Signs a token for `user` that is over at `expires_at_s`, in seconds since the Unix epoch.
///
/// # Errors
/// The key cannot sign.
pub fn mint(key: &SigningKey, mint: &Mint<'_>) -> Result<Secret, String> {
    let sign = |key: &EncodingKey, algorithm| encode(&Header::new(algorithm), mint, key);
    sign(&key.key, key.algorithm).map(Secret::new).map_err(|error| format!("cannot sign: {error}"))
}

/// What a minted token says.
#[derive(Debug, Serialize)]
pub struct Mint<'a> {
    /// Whose it is.
    pub sub: &'a str,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: u64,
    /// When it is over, likewise.
    pub exp: u64,
    /// What it allows beside receiving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'a str>,
    /// Whom it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<&'a str>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<&'a str>,
}
