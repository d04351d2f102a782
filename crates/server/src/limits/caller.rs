//! Who makes a request, for its limits. Invariant: an IPv6 address counts as its network, because a client has all
//! addresses of one.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller<'a> {
    /// The id of an API key.
    Key(&'a str),
    /// The subject of a token, within its issuer.
    Token {
        /// The claim `iss`.
        issuer: &'a str,
        /// The claim `sub`.
        subject: &'a str,
    },
    /// A client's address, without credentials.
    Address(IpAddr),
}

/// How many leading bits of an IPv6 address stand for a caller: 48 to 128. Providers give each client a /64 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Prefix(u8);

impl Ipv6Prefix {
    /// `None` unless between 48 and 128.
    #[must_use]
    pub fn new(bits: u8) -> Option<Self> {
        (48..=128).contains(&bits).then_some(Self(bits))
    }

    fn of(self, address: Ipv6Addr) -> Ipv6Addr {
        let mask = u128::MAX << (128 - u32::from(self.0));
        Ipv6Addr::from_bits(address.to_bits() & mask)
    }
}

impl Default for Ipv6Prefix {
    fn default() -> Self {
        Self(64)
    }
}

impl Caller<'_> {
    /// The caller that shares its buckets with this one.
    pub(super) fn masked(self, prefix: Ipv6Prefix) -> Self {
        match self {
            Self::Address(address) => Self::Address(match address.to_canonical() {
                IpAddr::V6(v6) => IpAddr::V6(prefix.of(v6)),
                v4 => v4,
            }),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_and_mapped_ones_are_one_caller() {
        let masked = |address: &str, bits| {
            let prefix = Ipv6Prefix::new(bits).unwrap();
            Caller::Address(address.parse().unwrap()).masked(prefix)
        };
        assert_eq!(masked("2001:db8:1:2::3", 64), masked("2001:db8:1:2:ffff::", 64));
        assert_ne!(masked("2001:db8:1:2::3", 64), masked("2001:db8:1:3::3", 64));
        assert_eq!(masked("2001:db8:1:2::3", 48), masked("2001:db8:1:3::3", 48));
        assert_ne!(masked("2001:db8::3", 128), masked("2001:db8::4", 128));
        assert_eq!(masked("::ffff:192.0.2.1", 64), masked("192.0.2.1", 64));
        assert_ne!(masked("192.0.2.1", 64), masked("192.0.2.2", 64));
        assert_eq!(Ipv6Prefix::new(47), None);
        assert_eq!(Ipv6Prefix::new(129), None);
    }
}
