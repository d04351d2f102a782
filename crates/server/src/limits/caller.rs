//! Who makes a request, for its limits. Invariant: an IPv6 address counts as its network, because a client has all
//! addresses of one.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The id of a caller with valid credentials: the same on all instances.
    Identity(u64),
    /// The address of a client without them.
    Address(IpAddr),
}

/// The bits of an IPv6 address that stand for a caller. Providers give each client a /64 or more.
pub(super) fn ipv6_mask(prefix: u8) -> u128 {
    let host_bits = 128_u32.saturating_sub(prefix.into());
    u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

impl Caller {
    /// The caller that shares its buckets with this one.
    pub(super) fn masked(self, mask: u128) -> Self {
        match self {
            Self::Address(address) => Self::Address(match address.to_canonical() {
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)),
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
        let masked = |address: &str, bits| Caller::Address(address.parse().unwrap()).masked(ipv6_mask(bits));
        assert_eq!(masked("2001:db8:1:2::3", 64), masked("2001:db8:1:2:ffff::", 64));
        assert_ne!(masked("2001:db8:1:2::3", 64), masked("2001:db8:1:3::3", 64));
        assert_eq!(masked("2001:db8:1:2::3", 48), masked("2001:db8:1:3::3", 48));
        assert_ne!(masked("2001:db8::3", 128), masked("2001:db8::4", 128));
        assert_eq!(masked("::ffff:192.0.2.1", 64), masked("192.0.2.1", 64));
        assert_ne!(masked("192.0.2.1", 64), masked("192.0.2.2", 64));
    }
}
