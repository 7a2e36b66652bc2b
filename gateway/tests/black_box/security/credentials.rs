//! Credentials made in the test: API keys and the file of them, issuers of tokens, and tokens with any header and any claims.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway::clock::Clock;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::harness::SOME_TIME_US;

/// How long the tokens of tests hold that do not say otherwise, in seconds.
const HOUR: u64 = 3_600;

/// When tests begin that own the time, in seconds since the Unix epoch.
pub(crate) const SOME_TIME: u64 = SOME_TIME_US / 1_000_000;

/// An API key as its owner knows it.
#[derive(Debug, Clone)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<&'static str>,
    pub(crate) secret: String,
    pub(crate) sends: Option<&'static str>,
}

impl ApiKey {
    /// A new key with a name of its own.
    pub(crate) fn new(name: &str, scopes: &[&'static str]) -> Self {
        let id = base16(&Uuid::new_v4().as_bytes()[..4]);
        Self { id, name: name.to_owned(), scopes: scopes.to_vec(), secret: new_secret(), sends: None }
    }

    /// The key that takes this one's place: everything is the same but the secret.
    pub(crate) fn replaced(&self) -> Self {
        Self { secret: new_secret(), ..self.clone() }
    }

    /// What its owner shows.
    pub(crate) fn text(&self) -> String {
        format!("gwk_{}_{}", self.id, self.secret)
    }

    /// What the file of keys holds in its place.
    pub(crate) fn hash(&self) -> String {
        base16(&Sha256::digest(self.text().as_bytes()))
    }

    fn block(&self) -> String {
        let Self { id, name, scopes, .. } = self;
        let sends = self.sends.map(|sends| format!("sends = {sends:?}\n")).unwrap_or_default();
        format!(
            "[[key]]\nid = {id:?}\nname = {name:?}\nscopes = {scopes:?}\nsha256 = {:?}\n{sends}\n",
            self.hash()
        )
    }
}

/// The text of a file of keys.
pub(crate) fn keys_file(keys: &[&ApiKey]) -> String {
    keys.iter().map(|key| key.block()).collect()
}

/// Somebody who signs tokens, and what a gateway needs to verify them.
pub(crate) struct Issuer {
    /// As it stands in a token's header.
    pub(crate) name: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// What a file of `auth.token_key_files` holds.
    pub(crate) file: String,
    /// The pair of keys, unless it is one secret.
    pub(crate) pair: Option<KeyPair>,
}

impl Issuer {
    /// With a secret that the gateway knows too.
    pub(crate) fn hs256() -> Self {
        let secret = new_secret();
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { name: "HS256", algorithm: Algorithm::HS256, key, file: format!("{secret}\n"), pair: None }
    }

    pub(crate) fn rs256() -> Self {
        Self::with_pair("RS256", Algorithm::RS256, &PKCS_RSA_SHA256, EncodingKey::from_rsa_pem)
    }

    pub(crate) fn es256() -> Self {
        Self::with_pair("ES256", Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem)
    }

    pub(crate) fn eddsa() -> Self {
        Self::with_pair("EdDSA", Algorithm::EdDSA, &PKCS_ED25519, EncodingKey::from_ed_pem)
    }

    /// One of each algorithm.
    pub(crate) fn each() -> [Self; 4] {
        [Self::hs256(), Self::rs256(), Self::es256(), Self::eddsa()]
    }

    fn with_pair(
        name: &'static str,
        algorithm: Algorithm,
        kind: &'static SignatureAlgorithm,
        read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let key = read(pair.serialize_pem().as_bytes()).unwrap();
        Self { name, algorithm, key, file: pair.public_key_pem(), pair: Some(pair) }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.name, "typ": "JWT"}), claims)
    }

    /// A token that names its key.
    pub(crate) fn token_of_key(&self, kid: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.name, "kid": kid}), claims)
    }

    /// A token with this header, whatever it says, signed as this issuer signs.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.key, self.algorithm)
    }

    /// The public key as a set of keys holds it (RFC 7517, 8037).
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let pair = self.pair.as_ref();
        let raw = pair.map(KeyPair::public_key_raw).unwrap_or_default();
        let mut jwk = match self.algorithm {
            Algorithm::ES256 => {
                // An uncompressed point: its kind, then both coordinates.
                json!({"kty": "EC", "crv": "P-256", "x": base64url(&raw[1..33]), "y": base64url(&raw[33..])})
            }
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}),
            algorithm => serde_json::to_value(Jwk::from_encoding_key(&self.key, algorithm).unwrap()).unwrap(),
        };
        for (name, value) in [("kid", kid), ("use", "sig"), ("alg", self.name)] {
            jwk[name] = json!(value);
        }
        jwk
    }
}

/// A token with this header and these claims, signed by this key in this way.
pub(crate) fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = unsigned(header, claims);
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The first two parts of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

/// A set of keys (RFC 7517).
pub(crate) fn key_set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Claims of a user whose token holds for another hour by the machine's clock.
pub(crate) fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + HOUR})
}

/// The same, and the user may send.
pub(crate) fn sending_claims(user: &str) -> Value {
    json!({"sub": user, "exp": now() + HOUR, "scope": "send"})
}

/// The machine's clock, in seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    Clock::system().now_us() / 1_000_000
}

/// Base64 as tokens use it.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What stands between the lines of a PEM text.
pub(crate) fn der_of(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(lines).unwrap()
}

fn base16(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 random bytes, 43 characters.
fn new_secret() -> String {
    base64url(&[Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat())
}

#[test]
fn tokens_of_the_test_verify_with_the_keys_of_the_test() {
    for issuer in Issuer::each() {
        let token = issuer.token(&claims("bob"));
        let jwk: Jwk = serde_json::from_value(issuer.jwk("k1")).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let rules = jsonwebtoken::Validation::new(issuer.algorithm);
        let read = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap();
        assert_eq!(read.claims["sub"], "bob", "{}", issuer.name);
    }
}
