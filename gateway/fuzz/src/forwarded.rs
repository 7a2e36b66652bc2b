//! Whose request it is, behind proxies.

use std::net::IpAddr;

use gateway::limits::Networks;
use gateway::listener::{AddressRules, ClientAddresses};
use poem::http::{HeaderMap, HeaderValue};

const HEADER: &str = "x-forwarded-for";

/// Only what a trusted proxy wrote counts: what a client writes into the header itself changes nothing, and neither does how
/// the header is cut into lines.
pub fn forwarded_for(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let trusted: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    let rules = AddressRules {
        trusted_proxies: Networks::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]),
        ..AddressRules::default()
    };
    let clients = ClientAddresses::new(rules);
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let Some(headers) = headers(&lines) else { return };
    let found = clients.client_behind(trusted[0], &headers);
    let stranger: IpAddr =
        if kind % 2 == 0 { [203, 0, 113, 9].into() } else { "2001:db8::9".parse().unwrap() };
    assert_eq!(clients.client_behind(stranger, &headers), stranger, "nobody else is believed");
    let joined = self::headers(&[&lines.join(&b","[..])]).unwrap();
    assert_eq!(clients.client_behind(trusted[0], &joined), found, "lines are as good as commas");
    let noted = with(&headers, &stranger.to_string());
    assert_eq!(clients.client_behind(trusted[0], &noted), stranger, "a client cannot pose as another");
    let through = clients.client_behind(trusted[0], &with(&headers, "10.0.0.2"));
    assert!(through == found || through == trusted[1], "{through} behind a second proxy, {found} behind one");
    if found != trusted[0] {
        let text = String::from_utf8_lossy(rest).to_lowercase();
        assert!(text.contains(['.', ':']), "{found} stands somewhere in {text}");
    }
}

/// `None` if no client can send these lines.
fn headers(lines: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(HEADER, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

/// The same with one more line, as a proxy adds it.
fn with(headers: &HeaderMap, entry: &str) -> HeaderMap {
    let mut headers = headers.clone();
    headers.append(HEADER, HeaderValue::from_str(entry).unwrap());
    headers
}
