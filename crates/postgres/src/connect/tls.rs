//! How far a server is trusted, and with what. Invariant: what is asked for is done or refused by name, never
//! weakened.

use std::path::PathBuf;

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslMode, SslNegotiation},
};

/// Whom to trust and as whom to appear when a connection is encrypted. Whether it is, `sslmode` says: `server`'s
/// [`ssl_mode`](Config::ssl_mode).
///
/// | `sslmode` | `ssl_mode` | `verify` |
/// |---|---|---|
/// | `disable` | `Disable` | `Nothing` |
/// | `allow` | `Prefer`, with `plain_first` | `Nothing` |
/// | `prefer` | `Prefer` | `Nothing` |
/// | `require` | `Require` | `Nothing`; with `roots`: `Authority` |
/// | `verify-ca` | `Require` | `Authority` |
/// | `verify-full` | `Require` | `Host` |
///
/// TLS 1.2 and 1.3 are spoken. With `Nothing` any certificate will do; if its key is of a kind that cannot be checked (RSA
/// below 2048 bits or for PSS alone, P-521, Ed448) there is no channel binding. A certificate that is checked has to be
/// of X.509 version 3; its names are its subject alternative names, and its common name is not one. The certificate of
/// an authority is not accepted as that of a server, unless it is self-signed and stands in `roots` itself. Over a Unix
/// socket there is no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What is checked of the server's certificate.
    pub verify: Verify,
    /// The authorities (`sslrootcert`).
    pub roots: Option<Roots>,
    /// Whether an encrypted connection is only tried where the server refuses one that is not. Means something with
    /// `Prefer` alone.
    pub plain_first: bool,
    /// The certificate to show to the server (`sslcert`, `sslkey`).
    pub certificate: Option<ClientCertificate>,
}

/// What is checked of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: keeps out those who listen, not those who interfere.
    #[default]
    Nothing,
    /// That an authority issued it.
    Authority,
    /// That an authority issued it, for the host that was asked for.
    Host,
}

/// The authorities that may have issued a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those in this PEM file, which is read again for every connection.
    File(PathBuf),
    /// Those the operating system trusts, read when the pool is built.
    System,
}

/// A certificate with its private key. Both files are read again for every connection, so they may be renewed while
/// the pool runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate, followed by its chain if it has one.
    pub certificate: PathBuf,
    /// PEM file with the private key, not encrypted.
    pub key: PathBuf,
}

impl Tls {
    /// Names the first thing asked for that cannot be had.
    pub(crate) fn check(&self, server: &Config) -> Result<(), &'static str> {
        let mode = server.get_ssl_mode();
        let required = mode == SslMode::Require;
        if !cfg!(feature = "tls") && (required || self.roots.is_some() || self.certificate.is_some()) {
            return Err("TLS (sslmode, sslrootcert, sslcert), which this program was built without");
        }
        if self.verify != Verify::Nothing && !required {
            return Err("a certificate to be verified without requiring one (sslmode)");
        }
        if self.verify != Verify::Nothing && self.roots.is_none() {
            return Err("sslmode=verify-ca or verify-full without `sslrootcert`, a file or `system`");
        }
        if self.roots == Some(Roots::System) && self.verify != Verify::Host {
            return Err("sslrootcert=system with a weaker sslmode than verify-full");
        }
        if server.get_ssl_negotiation() == SslNegotiation::Direct && !required {
            return Err("sslnegotiation=direct with a weaker sslmode than require");
        }
        if server.get_channel_binding() == ChannelBinding::Require && mode == SslMode::Disable {
            return Err("channel_binding=require with sslmode=disable");
        }
        Ok(())
    }
}
