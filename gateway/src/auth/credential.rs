//! Where a request carries its credential, and where it must not.

use percent_encoding::percent_decode_str;
use poem::http::{HeaderMap, header};

use super::api_keys::is_api_key;
use crate::domain::Secret;
use crate::metrics::AuthRefusal;

/// What stands before a credential among the subprotocols: a page cannot set headers for a WebSocket.
const BEARER_PROTOCOL: &str = "bearer.";

/// The longest credential, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// Names of parameters that people put credentials into.
const REFUSED_PARAMETERS: [&str; 7] =
    ["token", "access_token", "jwt", "api_key", "key", "authorization", "bearer"];

/// The credential of a request for a session: in `Authorization` (RFC 6750 §2.1), or in a WebSocket's subprotocols.
///
/// # Errors
/// Those of [`credential_of`].
pub fn credential_of_session(headers: &HeaderMap) -> Result<Option<Secret>, AuthRefusal> {
    match credential_of(headers)? {
        None => among_subprotocols(headers).map(accept).transpose(),
        credential => Ok(credential),
    }
}

/// The credential of a request: in `Authorization` (RFC 6750 §2.1).
///
/// # Errors
/// `Authorization` is not `Bearer`, is there twice, or the credential is longer than 8 KiB.
pub fn credential_of(headers: &HeaderMap) -> Result<Option<Secret>, AuthRefusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => return Err(AuthRefusal::Malformed),
        (Some(value), None) => value.to_str().map_err(|_| AuthRefusal::Malformed)?,
    };
    let (scheme, credential) = value.split_once(' ').ok_or(AuthRefusal::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthRefusal::Malformed);
    }
    accept(credential.trim()).map(Some)
}

fn accept(text: &str) -> Result<Secret, AuthRefusal> {
    if text.is_empty() || text.len() > MAX_CREDENTIAL_BYTES {
        return Err(AuthRefusal::Malformed);
    }
    Ok(Secret::new(text))
}

fn among_subprotocols(headers: &HeaderMap) -> Option<&str> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offers = offers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.find_map(|offer| offer.trim().strip_prefix(BEARER_PROTOCOL))
}

/// Whether the query carries what is, or looks like, a credential: addresses end up in the logs of every proxy.
#[must_use]
pub fn credential_in_url(query: &str) -> bool {
    query.split('&').any(|pair| {
        // A form writes a space as a plus.
        let pair = pair.replace('+', " ");
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        let value = percent_decode_str(value).decode_utf8_lossy();
        REFUSED_PARAMETERS.contains(&name.to_ascii_lowercase().as_str())
            || looks_like_a_credential(&name)
            || looks_like_a_credential(&value)
    })
}

/// An API key, or a JWT: its header is a JSON object, which in base64 begins with `eyJ`.
fn looks_like_a_credential(text: &str) -> bool {
    let text = text.trim_start();
    let text =
        text.get(..7).filter(|start| start.eq_ignore_ascii_case("bearer ")).map_or(text, |_| &text[7..]);
    is_api_key(text) || (text.starts_with("eyJ") && text.matches('.').count() == 2)
}

#[cfg(test)]
mod tests {
    use poem::http::{HeaderName, HeaderValue};

    use super::*;

    fn of(headers: &[(HeaderName, &'static str)]) -> Result<Option<String>, AuthRefusal> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| {
            map.append(name.clone(), HeaderValue::from_static(value));
        });
        credential_of_session(&map).map(|found| found.map(|secret| secret.expose().to_owned()))
    }

    #[test]
    fn a_credential_stands_in_authorization_or_among_the_subprotocols() {
        assert_eq!(of(&[]), Ok(None));
        for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(of(&[(header::AUTHORIZATION, value)]), Ok(Some("abc".to_owned())), "{value}");
        }
        let protocols = (header::SEC_WEBSOCKET_PROTOCOL, "notify.v1, bearer.a.b.c");
        assert_eq!(of(std::slice::from_ref(&protocols)), Ok(Some("a.b.c".to_owned())));
        let both = [protocols, (header::AUTHORIZATION, "Bearer x")];
        assert_eq!(of(&both), Ok(Some("x".to_owned())), "the header is the more deliberate one");
        let mut map = HeaderMap::new();
        map.append(both[0].0.clone(), HeaderValue::from_static(both[0].1));
        assert_eq!(credential_of(&map), Ok(None), "only a socket has subprotocols");
        for value in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(of(&[(header::AUTHORIZATION, value)]), Err(AuthRefusal::Malformed), "{value}");
        }
        let twice = [(header::AUTHORIZATION, "Bearer a"), (header::AUTHORIZATION, "Bearer a")];
        assert_eq!(of(&twice), Err(AuthRefusal::Malformed));
        assert_eq!(of(&[(header::SEC_WEBSOCKET_PROTOCOL, "bearer.")]), Err(AuthRefusal::Malformed));
    }

    #[test]
    fn a_credential_in_an_address_is_noticed_by_its_name_or_its_look() {
        for query in [
            "token=x",
            "a=b&access_token=",
            "JWT=1",
            "%74oken=x",
            "q=eyJhbGciOiJIUzI1NiJ9.e30.x",
            "q=%65yJh.e30.x",
            "q=gwk_0011aabb_xyz",
            "q=Bearer%20eyJh.a.b",
            "q=Bearer+eyJh.a.b",
            "eyJh.a.b",
            "x=1&gwk_0011aabb_xyz=",
        ] {
            assert!(credential_in_url(query), "{query}");
        }
        for query in ["", "after=start&ack=client", "after=3f2a-12", "q=a.b.c", "tokens=1", "wait=acked"] {
            assert!(!credential_in_url(query), "{query}");
        }
    }
}
