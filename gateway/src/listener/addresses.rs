//! Who connects, by address: how often, how many at the same time, and who it is behind a trusted proxy.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use poem::Request;
use poem::http::HeaderMap;

use crate::config::Rate;
use crate::limits::{AddressKey, Buckets, Networks};
use crate::metrics::Limit;

/// The header in which each proxy notes who connected to it.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Places for addresses that are kept although nobody needs them.
const SPARE_PLACES: usize = 1_024;

/// What addresses may do.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    /// Proxies whose `X-Forwarded-For` is believed; their own connections are not limited.
    pub trusted_proxies: Networks,
    /// Who is not limited either.
    pub exempt: Networks,
    /// How often one address may connect; `None`: as often as it likes.
    pub connects: Option<Rate>,
    /// Connections one address may hold at the same time; `None`: any number.
    pub max_connections: Option<usize>,
}

/// The clients of one listener, by address. What is known of one that has no connection is forgotten once its bucket is full
/// again and [`ClientAddresses::sweep`] was called, or thousands of others have come.
#[derive(Debug)]
pub struct ClientAddresses {
    trusted_proxies: Networks,
    exempt: Networks,
    connects: Option<Buckets<AddressKey>>,
    max_connections: Option<usize>,
    open: Mutex<HashMap<AddressKey, usize>>,
}

impl ClientAddresses {
    /// Nobody has come yet.
    #[must_use]
    pub fn new(rules: AddressRules) -> Self {
        let AddressRules { trusted_proxies, exempt, connects, max_connections } = rules;
        let connects = connects.map(Buckets::new);
        Self { trusted_proxies, exempt, connects, max_connections, open: Mutex::default() }
    }

    /// Whose request it is: the peer's, or behind a trusted proxy that of the last address in `X-Forwarded-For` that is no
    /// trusted proxy. What stands left of an entry that is no address is not believed.
    #[must_use]
    pub fn client_address(&self, request: &Request) -> IpAddr {
        self.client_behind(peer(request), request.headers())
    }

    /// The same of a peer and the headers of its request.
    #[must_use]
    pub fn client_behind(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusted_proxies.contains(peer) {
            return peer;
        }
        let headers: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        let entries = headers.iter().rev().flat_map(|header| header.as_bytes().rsplit(|byte| *byte == b','));
        let mut nearest = peer;
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
            let Some(address) = address_in(entry) else { break };
            nearest = address;
            if !self.trusted_proxies.contains(address) {
                break;
            }
        }
        nearest
    }

    /// Counts a request that came through a trusted proxy as a connect of the client behind it. One that came directly has
    /// paid when its connection was accepted. The caller counts the refusal.
    ///
    /// # Errors
    /// When the client connects too often: how long to wait.
    pub fn check_proxied(&self, request: &Request) -> Result<(), Duration> {
        self.check_behind(peer(request), request.headers())
    }

    fn check_behind(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Duration> {
        let Some(connects) = &self.connects else { return Ok(()) };
        if !self.trusted_proxies.contains(peer) {
            return Ok(());
        }
        let client = self.client_behind(peer, headers);
        if self.is_free(client) { Ok(()) } else { connects.take_one(&AddressKey::of(client)) }
    }

    /// Whether an address is one of `limits.exempt_addresses`.
    #[must_use]
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.contains(address)
    }

    /// Addresses of which something is remembered: those with a connection, and those whose bucket is not full.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.lock().len() + self.connects.as_ref().map_or(0, Buckets::len)
    }

    /// Forgets whose bucket is full again.
    pub fn sweep(&self) {
        if let Some(connects) = &self.connects {
            connects.sweep();
        }
    }

    /// Lets a connection in, until [`ClientAddresses::leave`].
    ///
    /// # Errors
    /// The limit that does not allow it.
    pub(super) fn enter(&self, address: IpAddr) -> Result<(), Limit> {
        if self.is_free(address) {
            return Ok(());
        }
        let key = AddressKey::of(address);
        if let Some(connects) = &self.connects {
            connects.take_one(&key).map_err(|_| Limit::ConnectsPerAddress)?;
        }
        let Some(max) = self.max_connections else { return Ok(()) };
        let mut open = self.lock();
        let count = open.get(&key).copied().unwrap_or(0);
        if count >= max {
            return Err(Limit::ConnectionsPerAddress);
        }
        open.insert(key, count + 1);
        Ok(())
    }

    /// Notes the end of a connection that was let in.
    pub(super) fn leave(&self, address: IpAddr) {
        if self.max_connections.is_none() || self.is_free(address) {
            return;
        }
        let mut open = self.lock();
        let key = AddressKey::of(address);
        if let Some(count) = open.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&key);
                if open.capacity() > SPARE_PLACES.max(4 * open.len()) {
                    let places = SPARE_PLACES.max(2 * open.len()) / 2;
                    open.shrink_to(places);
                }
            }
        }
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.trusted_proxies.contains(address) || self.exempt.contains(address)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AddressKey, usize>> {
        self.open.lock().expect("no code panics while it holds the counts")
    }
}

fn peer(request: &Request) -> IpAddr {
    // Every listener of ours is one of TCP; a request made by hand has no peer.
    let peer = request.remote_addr().as_socket_addr();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

/// An address as proxies write it: alone, with a port, in brackets.
fn address_in(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: IpAddr = entry.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderName;

    use super::*;

    fn networks(text: &[&str]) -> Networks {
        Networks::new(&text.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    /// What a request from `peer` says of itself.
    fn request(peer: &str, forwarded_for: &[&str]) -> (IpAddr, HeaderMap) {
        let values = forwarded_for.iter().map(|value| value.parse().unwrap());
        let headers = values.map(|value| (HeaderName::from_static(FORWARDED_FOR), value)).collect();
        (peer.parse::<IpAddr>().unwrap().to_canonical(), headers)
    }

    fn behind_proxies() -> ClientAddresses {
        ClientAddresses::new(AddressRules {
            trusted_proxies: networks(&["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]),
            exempt: networks(&["198.51.100.7/32"]),
            connects: Some(Rate { period: Duration::from_secs(3_600), ..Rate::per_second(1, 2) }),
            max_connections: Some(2),
        })
    }

    #[test]
    fn the_client_is_the_last_one_that_is_no_trusted_proxy() {
        let addresses = behind_proxies();
        let cases: [(&str, &[&str], &str); 15] = [
            ("192.0.2.1", &["203.0.113.9"], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["1.1.1.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
            ("127.0.0.1", &["1.1.1.1", "203.0.113.9", "10.1.2.3,fd00::1"], "203.0.113.9"),
            ("127.0.0.1", &["203.0.113.9:8080"], "203.0.113.9"),
            ("127.0.0.1", &["[2001:db8::7]:8080, 10.0.0.1"], "2001:db8::7"),
            ("127.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("127.0.0.1", &["1.1.1.1, nonsense, 10.1.2.3"], "10.1.2.3"),
            ("127.0.0.1", &["1.1.1.1, \u{e4}"], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9, ,"], "203.0.113.9"),
            ("127.0.0.1", &["10.3.3.3, 10.1.2.3"], "10.3.3.3"),
            ("127.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
        ];
        for (peer, headers, client) in cases {
            let (address, fields) = request(peer, headers);
            let found = addresses.client_behind(address, &fields);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
    }

    #[test]
    fn behind_a_proxy_each_client_pays_for_itself_and_directly_nobody_pays_twice() {
        let addresses = behind_proxies();
        for client in ["203.0.113.9", "203.0.113.10"] {
            let (peer, headers) = request("127.0.0.1", &[client]);
            assert_eq!(addresses.check_behind(peer, &headers), Ok(()));
            assert_eq!(addresses.check_behind(peer, &headers), Ok(()));
            assert!(addresses.check_behind(peer, &headers).unwrap_err() > Duration::from_secs(60));
        }
        let free: [(&str, &[&str]); 4] = [
            ("203.0.113.9", &[]),
            ("192.0.2.1", &["203.0.113.9"]),
            ("127.0.0.1", &[]),
            ("127.0.0.1", &["198.51.100.7"]),
        ];
        for (peer, headers) in free {
            for _ in 0..5 {
                let (address, fields) = request(peer, headers);
                assert_eq!(addresses.check_behind(address, &fields), Ok(()), "{peer} {headers:?}");
            }
        }
        assert_eq!(addresses.remembered(), 2);
    }

    #[test]
    fn an_address_holds_so_many_connections_and_is_forgotten_after_the_last() {
        let rules = AddressRules {
            max_connections: Some(2),
            exempt: networks(&["10.0.0.1/32"]),
            ..AddressRules::default()
        };
        let addresses = ClientAddresses::new(rules);
        let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap());
        assert_eq!((addresses.enter(one), addresses.enter(other)), (Ok(()), Ok(())));
        assert_eq!(addresses.enter(one), Err(Limit::ConnectionsPerAddress), "a whole /64 is one");
        addresses.leave(other);
        assert_eq!(addresses.enter(one), Ok(()));
        let free: IpAddr = "10.0.0.1".parse().unwrap();
        (0..5).for_each(|_| addresses.enter(free).unwrap());
        assert_eq!(addresses.remembered(), 1);
        (0..5).for_each(|_| addresses.leave(free));
        (0..2).for_each(|_| addresses.leave(one));
        assert_eq!(addresses.remembered(), 0);
    }

    #[test]
    fn a_crowd_leaves_no_empty_places_behind() {
        let addresses =
            ClientAddresses::new(AddressRules { max_connections: Some(1), ..AddressRules::default() });
        let crowd = || (0..50_000_u32).map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
        crowd().for_each(|address| addresses.enter(address).unwrap());
        crowd().for_each(|address| addresses.leave(address));
        assert_eq!(addresses.remembered(), 0);
        assert!(addresses.lock().capacity() <= 2 * SPARE_PLACES, "{}", addresses.lock().capacity());
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let rules =
            AddressRules { connects: Some(Rate::per_second(1_000_000_000, 1)), ..AddressRules::default() };
        let addresses = ClientAddresses::new(rules);
        addresses.enter(IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!(addresses.remembered(), 1);
        addresses.sweep();
        assert_eq!(addresses.remembered(), 0);
    }
}
