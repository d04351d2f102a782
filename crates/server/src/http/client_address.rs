//! The address of the client behind trusted proxies.
//!
//! Invariant: only what a trusted proxy wrote is believed. The header is read from its end, so nothing that a client sends
//! changes how the part that a proxy appended is read. Reading takes time linear in the header, and no memory.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::http::header::{FORWARDED, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of the proxies whose header is believed. Its text is a list of addresses and CIDRs, separated by commas or
/// spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Why a text is no list of networks. `Display` continues a sentence that begins with the text, and quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// An item, counted from 1, is neither an address nor a CIDR.
    #[error("has a mistake in item {0}: it is neither an IP address nor a network such as 10.0.0.0/8 or fd00::/8")]
    Malformed(usize),
    /// A network has bits set beyond its prefix, so one of the two is a mistake.
    #[error("has a mistake in item {at}: it has bits beyond its prefix; for the whole network write {network}")]
    HostBits {
        /// Which item, counted from 1.
        at: usize,
        /// The network of that prefix.
        network: IpNet,
    },
}

impl TrustedProxies {
    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address belongs to one of the networks. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for TrustedProxies {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let items = text.split([',', ' ']).filter(|item| !item.is_empty());
        let networks = items.zip(1..).map(|(item, at)| network(item, at));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

/// Lists the networks, separated by commas.
impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

fn network(text: &str, at: usize) -> Result<IpNet, InvalidNetwork> {
    let given = match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let given = given.ok_or(InvalidNetwork::Malformed(at))?;
    let network = given.trunc();
    match network == given {
        true => Ok(folded(network)),
        false => Err(InvalidNetwork::HostBits { at, network }),
    }
}

/// Folds a network of IPv4-mapped addresses, because addresses are folded before they are compared.
fn folded(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let length = mapped.prefix_len().checked_sub(96);
    let folded = mapped.addr().to_ipv4_mapped().zip(length);
    folded
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(network, IpNet::V4)
}

/// The header in which the proxies name the client. The other one is ignored, because a proxy that writes one of them
/// passes on what the client wrote into the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

impl ProxyHeader {
    /// The words of the setting.
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("x-forwarded-for", Self::XForwardedFor), ("forwarded", Self::Forwarded)];

    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }
}

/// Finds clients' addresses. One for all cores.
#[derive(Debug, Default)]
pub struct ClientAddresses {
    trusted: TrustedProxies,
    header: ProxyHeader,
    has_warned: AtomicBool,
}

impl ClientAddresses {
    /// Believes this header of these proxies.
    #[must_use]
    pub fn new(trusted: TrustedProxies, header: ProxyHeader) -> Self {
        Self {
            trusted,
            header,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Returns the client's address: see [`client_address`]. Warns once if a proxy seems to be in front of the service
    /// and none is trusted.
    #[must_use]
    pub fn of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusted.is_empty() {
            return client_address(peer, headers, &self.trusted, self.header);
        }
        if !self.has_warned.load(Relaxed) && is_private(peer) && headers.contains_key(self.header.name()) {
            self.warn(peer);
        }
        peer
    }

    #[cold]
    fn warn(&self, peer: IpAddr) {
        if !self.has_warned.swap(true, Relaxed) {
            let header = self.header.name();
            tracing::warn!(
                %peer,
                "{peer} sends the header {header}, which proxies do: all clients behind {peer} share one limit and one \
                 address in the log; set TRUSTED_PROXIES={peer} if it is your proxy"
            );
        }
    }
}

/// Whether the address is one that proxies of the operator have: private, loopback, link-local or shared (RFC 6598).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Returns the address of the client: the peer, unless it is a trusted proxy. Then the addresses of the header are
/// followed from the last one, which the peer wrote, to the first that is not trusted. At an entry that is no address, the
/// trusted proxy that wrote it stands for the client. IPv4-mapped addresses are returned as IPv4.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies, header: ProxyHeader) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    let lines = headers.get_all(header.name()).into_iter().rev();
    let lines = lines.map(HeaderValue::as_bytes);
    match header {
        ProxyHeader::XForwardedFor => {
            let entries = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
            first_untrusted(peer, entries.map(node), trusted)
        }
        ProxyHeader::Forwarded => {
            let elements = lines.flat_map(|line| FromTheEnd::new(line, b','));
            first_untrusted(peer, elements.map(forwarded_for), trusted)
        }
    }
}

/// `hops` are in the order from this service to the client.
fn first_untrusted(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &TrustedProxies) -> IpAddr {
    let mut nearest = peer;
    for hop in hops {
        match hop {
            Some(address) if trusted.contains(address) => nearest = address,
            Some(address) => return address,
            None => return nearest,
        }
    }
    nearest
}

/// The parts of a value between separators outside quotes, from the last to the first.
///
/// It looks for quotes from the end, so that an unclosed one at the beginning, which a client can send, spoils only the
/// parts before it.
struct FromTheEnd<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> FromTheEnd<'a> {
    fn new(value: &'a [u8], separator: u8) -> Self {
        let rest = Some(value);
        Self { rest, separator }
    }
}

impl<'a> Iterator for FromTheEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut is_quoted = false;
        let mut at = rest.len();
        while let Some(before) = at.checked_sub(1) {
            at = before;
            if rest[at] == self.separator && !is_quoted {
                self.rest = Some(&rest[..at]);
                return Some(&rest[at + 1..]);
            }
            if rest[at] == b'"' {
                // Within quotes, an odd number of backslashes escapes the quote.
                let backslashes = rest[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                let is_escaped = is_quoted && backslashes % 2 == 1;
                is_quoted ^= !is_escaped;
                at -= backslashes;
            }
        }
        self.rest = None;
        Some(rest)
    }
}

/// Returns the address of the parameter `for` of an element; `None` if it has none, several, or one that is no address.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in FromTheEnd::new(element, b';') {
        let pair = pair.trim_ascii();
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if !name.eq_ignore_ascii_case(b"for") {
            continue;
        }
        if found.is_some() {
            return None;
        }
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            token => token,
        };
        found = Some(node(value)?);
    }
    found
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`. The port of
/// `Forwarded` may be obfuscated (`_x`).
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text.trim_ascii()).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
                return None;
            }
            IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => {
                let (address, port) = text.split_once(':')?;
                let address = address.parse::<Ipv4Addr>().ok()?;
                is_port(port).then_some(IpAddr::V4(address))?
            }
        },
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_hidden = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    is_number || text.strip_prefix('_').is_some_and(is_hidden)
}

#[cfg(test)]
#[path = "client_address_tests.rs"]
mod tests;
