//! What is looked for: credentials, their secret parts, and both in the forms that they take on their way.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::harness::segment;

/// Anything shorter could stand somewhere by chance.
const MIN_LENGTH: usize = 12;

/// Texts that must not be found, with what they are.
#[derive(Default)]
pub(super) struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// A credential: the whole, and what makes it one.
    pub(super) fn add_credential(&mut self, credential: &str) {
        self.add_secret("a credential", credential);
        if let Some(secret) = credential.strip_prefix("gwk_").and_then(|rest| rest.get(9..)) {
            self.add_secret("the secret part of a key", secret);
        } else if let Some((_, signature)) = credential.rsplit_once('.') {
            self.add_secret("the signature of a token", signature);
        }
    }

    /// A text as it is, in base64 and as it stands in an address.
    pub(super) fn add_secret(&mut self, what: &str, text: &str) {
        if text.len() < MIN_LENGTH {
            return;
        }
        let every_byte: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for (form, bytes) in [
            ("", text.to_owned()),
            (" in base64url", URL_SAFE_NO_PAD.encode(text)),
            (" in base64", STANDARD_NO_PAD.encode(text)),
            (" percent-encoded", segment(text)),
            (" percent-encoded to the last byte", every_byte),
        ] {
            let start: String = text.chars().take(MIN_LENGTH).collect();
            self.0.push((format!("{what}{form} ({start}…)"), bytes.into_bytes()));
        }
    }

    /// What of it stands in these bytes.
    pub(super) fn found_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let haystack = String::from_utf8_lossy(bytes);
        let needles = self
            .0
            .iter()
            .filter(|(_, needle)| haystack.contains(std::str::from_utf8(needle).expect("needles are ASCII")));
        let place: String = place.chars().take(400).collect();
        needles.map(|(what, _)| format!("{what} in {place}")).collect()
    }
}

#[test]
fn needles_are_found_in_each_of_their_forms() {
    let key = format!("gwk_00000000_{}", "s".repeat(43));
    let mut needles = Needles::default();
    needles.add_credential(&key);
    needles.add_credential("header.claims.a-signature-of-some-length");
    for haystack in [
        format!("before {key} after"),
        format!("only the secret {}", "s".repeat(43)),
        segment(&key),
        URL_SAFE_NO_PAD.encode(&key),
        "x.y.a-signature-of-some-length".to_owned(),
    ] {
        assert!(!needles.found_in("here", haystack.as_bytes()).is_empty(), "{haystack}");
    }
    assert!(needles.found_in("here", b"gwk_00000000 is an id, no secret").is_empty());
}
