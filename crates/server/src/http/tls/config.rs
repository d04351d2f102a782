//! What an operator may set about TLS. Invariant: nothing older than TLS 1.2 can be asked for.

use std::path::PathBuf;

/// The certificate of the service and whom it asks for one. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// A PEM file with the certificate of the service, followed by its chain in order.
    pub certificate: PathBuf,
    /// A PEM file with the private key of the certificate, not encrypted.
    pub key: PathBuf,
    /// Clients that must, or may, show a certificate. `None`: they are not asked for one.
    pub clients: Option<ClientCertificates>,
    /// The oldest version that is accepted.
    pub min_version: TlsVersion,
}

/// The certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// A PEM file with the authorities that may sign them.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is refused. One with a certificate of another authority always is.
    pub required: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// The versions as a setting names them.
    pub(crate) const WORDS: &[(&str, Self)] = &[("1.2", Self::Tls12), ("1.3", Self::Tls13)];
}
