//! TLS to clients: the certificate, its reload, and the handshake.
//!
//! Invariant: there is always a configuration that can serve. A new one replaces it as a whole, and only after every check;
//! connections that are open keep the one they began with.
//!
//! The whole configuration is replaced, not only the certificate, so that the authorities of clients are reloaded too.

mod certificate;
mod config;
mod files;
mod handshake;
mod plain_http;
mod reload;

pub use self::config::{ClientCertificates, TlsConfig, TlsVersion};
pub use self::files::TlsError;
pub(crate) use self::files::host_name_in;
pub(super) use self::handshake::handshake;
pub use self::reload::{PreparedTls, Tls, TlsStats};

/// The name of HTTP/2 in ALPN.
const HTTP2: &[u8] = b"h2";
