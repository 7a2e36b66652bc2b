//! Credentials: where they stand in a request, and who is known by one.

use std::fmt::Write as _;
use std::fs;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gateway::auth::api_keys::is_api_key;
use gateway::auth::{Authenticator, Caller, Mint, SigningKey, credential_in_url, credential_of, mint};
use gateway::clock::Clock;
use gateway::config::Config;
use gateway::domain::{Secret, UserId};
use gateway::metrics::{AuthRefusal, Metrics};
use poem::http::{HeaderMap, HeaderValue, header};

/// The longest credential, in bytes.
const MAX_BYTES: usize = 8 * 1_024;

/// When a token of these tests is over: in 2100.
const EXPIRES_AT_S: u64 = 4_102_444_800;

/// A gateway's authenticator, and the key of its tokens.
struct Authority {
    authenticator: Authenticator,
    key: SigningKey,
}

thread_local! {
    /// Made once: inputs come by the million.
    static AUTHORITY: Authority = Authority::new();
}

/// Nobody is known by what the gateway's own key did not sign, to the last bit; a credential in an address is noticed however
/// it is written; and none is ever printed.
pub fn credential(input: &[u8]) {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (authorization, protocols, query) = (next(), next(), next());
    in_headers(authorization, protocols);
    if let Ok(query) = std::str::from_utf8(query) {
        in_url(query);
    }
    if let Ok(text) = std::str::from_utf8(authorization) {
        AUTHORITY.with(|authority| authority.check(text, protocols));
    }
}

fn in_headers(authorization: &[u8], protocols: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, value) in [(header::AUTHORIZATION, authorization), (header::SEC_WEBSOCKET_PROTOCOL, protocols)]
    {
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.append(name, value);
        }
    }
    match credential_of(&headers) {
        Ok(Some(secret)) => {
            let text = secret.expose();
            assert!((1..=MAX_BYTES).contains(&text.len()));
            let from = headers.get(header::AUTHORIZATION).map_or(protocols, |_| authorization);
            assert!(from.windows(text.len()).any(|window| window == text.as_bytes()));
            assert_eq!(format!("{secret:?}"), "***");
            if is_api_key(text) {
                assert!(credential_in_url(&format!("x={}", percent_encoded(text))));
            }
        }
        Ok(None) => assert!(!headers.contains_key(header::AUTHORIZATION)),
        Err(refusal) => {
            assert_eq!(refusal, AuthRefusal::Malformed);
            assert!(!headers.is_empty());
        }
    }
}

/// What stands beside it and how it is encoded does not hide it.
fn in_url(query: &str) {
    let noticed = credential_in_url(query);
    assert_eq!(credential_in_url(&format!("after=start&{query}")), noticed);
    assert_eq!(credential_in_url(&format!("{query}&ack=client")), noticed);
    assert!(credential_in_url(&format!("{query}&token=x")));
    // A sign that was encoded already would be encoded twice.
    if !query.contains('%') {
        let encoded: Vec<String> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=').map_or_else(
                    || percent_encoded(pair),
                    |(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value)),
                )
            })
            .collect();
        assert_eq!(credential_in_url(&encoded.join("&")), noticed);
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02x}").unwrap();
        encoded
    })
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "a secret of at least thirty-two bytes").unwrap();
        let mut config = Config::for_tests();
        config.auth.token_key_files = vec![path.clone()];
        let authenticator = Authenticator::load(&config, Clock::system(), Arc::new(Metrics::new())).unwrap();
        Self { authenticator, key: SigningKey::read(&path).unwrap() }
    }

    fn token(&self, user: &str, expires_at_s: u64) -> String {
        let mint_of =
            Mint { sub: user, iat: 0, exp: expires_at_s, scope: Some("send"), aud: None, iss: None };
        mint(&self.key, &mint_of).unwrap().expose().to_owned()
    }

    fn caller(&self, credential: &str) -> Result<Caller, AuthRefusal> {
        let credential = Secret::new(credential);
        let caller = pin!(self.authenticator.caller(Some(&credential)));
        match caller.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(caller) => caller,
            Poll::Pending => panic!("there is nothing to wait for: the keys are in a file"),
        }
    }

    fn check(&self, text: &str, change: &[u8]) {
        // Whoever finds a signature for something that was not signed has broken more than the gateway.
        assert!(self.caller(text).is_err() || text == self.token("bob", EXPIRES_AT_S));
        match (self.caller(&self.token(text, EXPIRES_AT_S)), UserId::parse(text)) {
            (Ok(Caller::User(user)), Ok(expected)) => assert_eq!(user.user, expected),
            (Ok(_), _) => panic!("a token is a user's"),
            (Err(_), expected) => assert!(expected.is_err(), "a user's name is a user's name"),
        }
        assert!(self.caller(&self.token("bob", 1_000_000_000)).is_err(), "it was over in 2001");
        if let Some((&[at, bits], _)) = change.split_first_chunk() {
            let mut token = self.token("bob", EXPIRES_AT_S).into_bytes();
            let at = usize::from(at) % token.len();
            token[at] ^= bits & 0x7f;
            let changed = String::from_utf8(token).unwrap();
            assert_eq!(self.caller(&changed).is_ok(), bits & 0x7f == 0, "{changed}");
        }
    }
}
