//! Tests of credentials and trust.

use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// Keys made for these tests; they open nothing.
const P256_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6GJa2Jx+Y4ZZGG7H
kFyI4cBYcZ1UEw2aqqqw3bsB8BOhRANCAARzp7Ec+1v2DduwzIzbNkZ2wUHKqbXe
Uw5qfargLNKvtMXFOwKGGPo7mc6uMzsmSgVmfjA+gixiH+wKWzNRA+U1
-----END PRIVATE KEY-----
";
const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEc6exHPtb9g3bsMyM2zZGdsFByqm1
3lMOan2q4CzSr7TFxTsChhj6O5nOrjM7JkoFZn4wPoIsYh/sClszUQPlNQ==
-----END PUBLIC KEY-----
";
const ED25519_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIF7az1kw/BEWizg2OgPjJQZ7ExozoFZI8a8ktTe7fjKv
-----END PRIVATE KEY-----
";
const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA+71Mfup+PDCb+L8gwX+w/9YGuN5PSY7BZikqW2qNCaI=
-----END PUBLIC KEY-----
";
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBkjCCATmgAwIBAgIUb8UOb4DRhJMqhUt1EeozEVz/7wMwCgYIKoZIzj0EAwIw
HjEcMBoGA1UEAwwTbG9hZCB0ZXN0IGF1dGhvcml0eTAgFw0yNjExMjYwMzE2NTJa
GA8yMTI2MTEwMjAzMTY1MlowHjEcMBoGA1UEAwwTbG9hZCB0ZXN0IGF1dGhvcml0
eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPxdT1qYgtcRWq8vZPGvXdLg6fI7
PHR7mAITMzryMt4o8apUapTVpBFPHoJnhLWQ0T6GjOwjQ1jGgmW8vUjyhGKjUzBR
MB0GA1UdDgQWBBS6C6xOtQsYuAfUeVgprY160xmz5DAfBgNVHSMEGDAWgBS6C6xO
tQsYuAfUeVgprY160xmz5DAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cA
MEQCIE+Nh8bsJF/QQFPBxDiqWrYR8s/xfF8zhhsjAcNEBYoIAiAfzhY0H4pGDKwe
EWC5H3h8mJld6WObbeXNrmWWg5eLgw==
-----END CERTIFICATE-----
";

/// A file with this content in a directory that goes away with it.
struct File(TempDir);

impl File {
    fn of(content: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("key"), content).unwrap();
        Self(folder)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("key")
    }
}

fn with_jwt_key(content: &str) -> Result<Security, SetUpError> {
    Security::load(None, Some(&File::of(content).path()), None)
}

fn claims(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Value {
    let mut validation = Validation::new(algorithm);
    // The times are looked at by the test itself.
    validation.validate_exp = false;
    decode::<Value>(token, key, &validation).unwrap().claims
}

#[test]
fn a_token_is_the_users_and_holds_for_as_long_as_asked() {
    let security = with_jwt_key("a secret of the test\n").unwrap();
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let key = DecodingKey::from_secret(b"a secret of the test");

    let day = security.token("bob", None, now).unwrap();
    let expected = serde_json::json!({"sub": "bob", "iat": 1_700_000_000, "exp": 1_700_086_400});
    assert_eq!(claims(&day, &key, Algorithm::HS256), expected);

    let security = security.with_token_lifetime(Duration::from_secs(60));
    let minute = claims(&security.token("bob", None, now).unwrap(), &key, Algorithm::HS256);
    assert_eq!(minute["exp"], 1_700_000_060);
}

#[test]
fn a_private_key_signs_with_the_algorithm_of_its_kind() {
    for (private, public, algorithm) in [
        (P256_KEY, DecodingKey::from_ec_pem(P256_PUBLIC.as_bytes()), Algorithm::ES256),
        (ED25519_KEY, DecodingKey::from_ed_pem(ED25519_PUBLIC.as_bytes()), Algorithm::EdDSA),
    ] {
        let token = with_jwt_key(private).unwrap().token_for("bob").unwrap();
        assert_eq!(claims(&token, &public.unwrap(), algorithm)["sub"], "bob", "{algorithm:?}");
    }
}

#[test]
fn what_cannot_sign_is_refused_by_its_name() {
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for content in [P256_PUBLIC, AUTHORITY, nonsense] {
        let file = File::of(content);
        let SetUpError(text) = Security::load(None, Some(&file.path()), None).unwrap_err();
        assert!(text.starts_with(&format!("{} is no private key", file.path().display())), "{text}");
    }
    let SetUpError(text) = with_jwt_key(" \n").unwrap_err();
    assert!(text.ends_with("/key is empty"), "{text}");
    let SetUpError(text) = Security::load(Some(Path::new("/nowhere/key")), None, None).unwrap_err();
    assert!(text.starts_with("cannot read /nowhere/key: "), "{text}");
}

#[test]
fn senders_show_the_api_key_or_else_a_token_that_may_send() {
    let nothing = Security::load(None, None, None).unwrap();
    assert_eq!((nothing.authorization(), nothing.token_for("bob")), (None, None));

    let (api, jwt) = (File::of("key-of-an-api\n"), File::of("a secret of the test"));
    let both = Security::load(Some(&api.path()), Some(&jwt.path()), None).unwrap();
    assert_eq!(both.authorization().unwrap(), "Bearer key-of-an-api");
    assert!(both.authorization().unwrap().is_sensitive());

    let token = with_jwt_key("a secret of the test").unwrap().authorization().unwrap();
    assert!(token.is_sensitive());
    let token = token.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let claims = claims(token, &DecodingKey::from_secret(b"a secret of the test"), Algorithm::HS256);
    assert_eq!((&claims["sub"], &claims["scope"]), (&"loadtest".into(), &"send".into()));

    let two_lines = File::of("one\ntwo");
    assert!(Security::load(Some(&two_lines.path()), None, None).is_err());
}

#[test]
fn no_secret_is_printed() {
    let (api, jwt) = (File::of("key-of-an-api"), File::of("a secret of the test"));
    let security = Security::load(Some(&api.path()), Some(&jwt.path()), None).unwrap();
    let printed = format!("{security:#?} {:?}", security.authorization());
    assert!(printed.contains("HS256"), "{printed}");
    assert!(!printed.contains("key-of-an-api") && !printed.contains("a secret"), "{printed}");
}

#[test]
fn an_authority_of_the_targets_own_is_trusted_by_requests_and_sockets() {
    let file = File::of(&AUTHORITY.repeat(2));
    let security = Security::load(None, None, Some(&file.path())).unwrap();
    assert!(security.tls().unwrap().is_some());
    security.http_client(Duration::from_secs(1)).unwrap();

    let without = Security::load(None, None, None).unwrap();
    assert!(without.tls().unwrap().is_none());
    without.http_client(Duration::from_secs(1)).unwrap();

    let no_certificate = File::of(P256_KEY);
    let SetUpError(text) = Security::load(None, None, Some(&no_certificate.path())).unwrap_err();
    assert!(text.ends_with("/key holds no certificate in PEM"), "{text}");
}
