//! Who is at the other end of a connection. Invariant: the address is the socket's, never one that the peer sent.

use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address. An IPv4 address that was mapped into IPv6 is an IPv4 address here.
    pub address: IpAddr,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip().to_canonical(),
        }
    }
}
