//! Addresses: who is exempt, and what counts as one.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// A set of networks.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<IpNet>);

/// What counts as one address: of IPv6 a whole /64, which a single host has at its disposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressKey(IpAddr);

impl Networks {
    /// These.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.to_vec())
    }

    /// Whether one of them has the address; an IPv4 address in IPv6's clothes is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl AddressKey {
    /// What `address` counts as.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        AddressKey::of(address.parse().unwrap())
    }

    #[test]
    fn hosts_of_one_network_of_ipv6_count_as_one_and_of_ipv4_do_not() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_set_of_networks_knows_its_addresses() {
        let networks = Networks::new(&["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        for (address, inside) in
            [("10.9.9.9", true), ("::ffff:10.1.1.1", true), ("11.0.0.1", false), ("::1", true)]
        {
            assert_eq!(networks.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!Networks::default().contains(IpAddr::from([127, 0, 0, 1])));
    }
}
