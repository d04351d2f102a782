//! Who is at the other end of a connection. Invariant: nothing here was said by the peer itself. The address is that of the
//! socket or comes from a trusted proxy; the subject is in a certificate that a trusted authority signed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address. An IPv4 address that was mapped into IPv6 is an IPv4 address here.
    pub address: IpAddr,
    /// The subject of its TLS certificate, as RFC 4514 writes it: `CN=reports,O=Acme`; if that is empty, an alternative name
    /// such as `URI:spiffe://acme/reports`. `None` without a certificate, or if that has neither.
    pub subject: Option<Arc<str>>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip().to_canonical(),
            subject: None,
        }
    }
}
