//! The limits of the transport that an operator may set, and what it offers to browsers. Invariant: every wait has a finite default.

use std::time::Duration;

use super::client_address::{ProxyHeader, TrustedProxies};
use super::cors::Cors;
use super::sampling::Sampling;

/// The settings of the transport. Every duration must be above zero. A timeout may fire a few milliseconds late, never
/// early.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Most connections open at a time. A further one is answered `503` and closed. Default 20 000.
    pub max_connections: usize,
    /// Most HTTP/2 streams open at a time on one connection. Default 128.
    pub max_streams: u16,
    /// Most bytes of a request body. A longer one is answered `413`. Default 1 MiB.
    pub max_body: u64,
    /// From accepting a connection to its first byte. Default 10 s.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request's head to its last. Further bytes do not extend it. Default 10 s.
    pub head_timeout: Duration,
    /// From the end of a request's head to the end of its body. Further bytes do not extend it. Default 15 s.
    pub body_timeout: Duration,
    /// From the end of a response to the next request on the connection. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a peer may take none of the bytes that wait to be sent to it. Default 30 s.
    pub write_stall_timeout: Duration,
    /// How often a silent HTTP/2 peer is pinged, and how long it has to answer. Default 20 s.
    pub ping_interval: Duration,
    /// How long requests in flight may continue after a shutdown began. Default 30 s.
    pub drain_timeout: Duration,
    /// A request that takes this long is logged. Default 1 s.
    pub slow_request: Duration,
    /// Most headers of a request. One with more is answered `431`. At most 100, which is the parser's limit. Default 100.
    pub max_headers: usize,
    /// Most bytes of a request's head. A longer one is answered `431`. At least 8 KiB. Default 64 KiB.
    pub max_header_bytes: u32,
    /// The proxies that are believed when they name the client in a header. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// The header in which they name it. Default `X-Forwarded-For`.
    pub proxy_header: ProxyHeader,
    /// Which web pages of other origins may use the service. Default `None`: none.
    pub cors: Option<Cors>,
    /// How long browsers use only TLS after a response (`Strict-Transport-Security`). Set it only if the service is reached
    /// over TLS. Default `None`: the header is not sent.
    pub hsts: Option<Duration>,
    /// Whether responses that are marked [`Compressible`](super::Compressible) are compressed for callers that accept it.
    /// Default false.
    pub compression: bool,
    /// Whether every response tells where its time went (`Server-Timing`). Default false.
    pub server_timing: bool,
    /// How many requests begin a trace. Default `None`: no spans are recorded.
    pub sampling: Option<Sampling>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_streams: 128,
            max_body: 1024 * 1024,
            first_byte_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(30),
            slow_request: Duration::from_secs(1),
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            trusted_proxies: TrustedProxies::default(),
            proxy_header: ProxyHeader::default(),
            cors: None,
            hsts: None,
            compression: false,
            server_timing: false,
            sampling: None,
        }
    }
}
