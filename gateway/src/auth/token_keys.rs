//! Keys that tokens are verified with. A key belongs to one algorithm, which its own kind decides: no token can choose
//! another one for it.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;

use super::files::is_readable_by_others;

/// The shortest secret of HS256, in bytes: as long as its hash (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Keys in one set that are looked at; a provider has a handful.
const MAX_KEYS: usize = 64;

/// Reads a key of one kind.
type Reader<K> = fn(&[u8]) -> jsonwebtoken::errors::Result<K>;

/// A key, and the one algorithm it verifies.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) name: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// A key, and the one algorithm it signs with: for tokens of development.
pub struct SigningKey {
    shared: bool,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// A set of keys (RFC 7517 §5); each is looked at by itself, since one that is not understood is to be ignored.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// The key in a file: a public key in PEM, or a secret, white space around it not counted.
///
/// # Errors
/// What is wrong with it, without showing any of it.
pub(super) fn read_verifying_key(bytes: &[u8]) -> Result<VerifyingKey, String> {
    if !is_pem(bytes) {
        let secret = secret_of(bytes)?;
        return Ok(VerifyingKey {
            name: None,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret),
        });
    }
    if contains(bytes, b"PRIVATE KEY") {
        return Err("it is a private key; the gateway needs, and should have, only the public one".to_owned());
    }
    let kinds: [(Algorithm, Reader<DecodingKey>); 3] = [
        (Algorithm::RS256, DecodingKey::from_rsa_pem),
        (Algorithm::ES256, DecodingKey::from_ec_pem),
        (Algorithm::EdDSA, DecodingKey::from_ed_pem),
    ];
    let found = kinds.into_iter().find_map(|(algorithm, read)| Some((algorithm, read(bytes).ok()?)));
    let (algorithm, key) = found.ok_or("it is no public key of RSA, P-256 or Ed25519 in PEM")?;
    Ok(VerifyingKey { name: None, algorithm, key })
}

/// The keys of a set that are of use here: public ones for RS256, ES256 and EdDSA. Secrets do not belong into a set.
///
/// # Errors
/// It is no set of keys, or none of them is of use.
pub(super) fn read_key_set(bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let set: KeySet =
        serde_json::from_slice(bytes).map_err(|_| "it is no set of keys (RFC 7517)".to_owned())?;
    let keys: Vec<VerifyingKey> = set.keys.into_iter().take(MAX_KEYS).filter_map(from_jwk).collect();
    if keys.is_empty() {
        return Err("it has no public key for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

fn from_jwk(value: serde_json::Value) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|given| given != named) {
        return None;
    }
    Some(VerifyingKey { name: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(&jwk).ok()? })
}

impl SigningKey {
    /// Reads a file: a private key in PEM, or a secret.
    ///
    /// # Errors
    /// What is wrong with it, without showing any of it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refused = |why: String| format!("cannot sign with {}: {why}", path.display());
        let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        let shared = is_readable_by_others(path);
        Self::parse(&bytes).map(|key| Self { shared, ..key }).map_err(refused)
    }

    /// Whether everybody on this machine may read its file.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if !is_pem(bytes) {
            let key = EncodingKey::from_secret(secret_of(bytes)?);
            return Ok(Self { shared: false, algorithm: Algorithm::HS256, key });
        }
        let kinds: [(Algorithm, Reader<EncodingKey>); 3] = [
            (Algorithm::RS256, EncodingKey::from_rsa_pem),
            (Algorithm::ES256, EncodingKey::from_ec_pem),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem),
        ];
        let found = kinds.into_iter().find_map(|(algorithm, read)| Some((algorithm, read(bytes).ok()?)));
        let (algorithm, key) = found.ok_or("it is no private key of RSA, P-256 or Ed25519 in PEM")?;
        Ok(Self { shared: false, algorithm, key })
    }
}

fn secret_of(bytes: &[u8]) -> Result<&[u8], String> {
    let secret = bytes.trim_ascii();
    if secret.len() < MIN_SECRET_BYTES {
        return Err(format!("a secret has at least {MIN_SECRET_BYTES} bytes, this one has {}", secret.len()));
    }
    Ok(secret)
}

fn is_pem(bytes: &[u8]) -> bool {
    contains(bytes, b"-----BEGIN ")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
