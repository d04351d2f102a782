//! The TLS settings of a connection. Invariant: a setting is applied, or refused by name; it is never weakened.

use std::path::PathBuf;

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslMode, SslNegotiation},
};

/// The TLS settings of a connection: what is checked of the server, and the client's certificate. `sslmode`,
/// [`ssl_mode`](Config::ssl_mode) of `server`, decides whether a connection is encrypted.
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
/// TLS 1.2 and 1.3 are supported.
///
/// * With `Nothing`, any certificate is accepted. If its key cannot be checked (RSA below 2048 bits or for PSS alone,
///   P-521, Ed448), there is no channel binding.
///
/// * A certificate that is checked must be of X.509 version 3. Only its subject alternative names count, not its common
///   name.
///
/// * The certificate of an authority is not accepted as that of a server, unless it is self-signed and in `roots`
///   itself.
///
/// * Unix sockets are never encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What is checked of the server's certificate.
    pub verify: Verify,
    /// The trusted authorities (`sslrootcert`).
    pub roots: Option<Roots>,
    /// Tries encryption only if the server refuses a plain connection (`sslmode=allow`). Only used with `Prefer`.
    pub plain_first: bool,
    /// The client certificate (`sslcert`, `sslkey`).
    pub certificate: Option<ClientCertificate>,
}

impl Tls {
    /// The word of `sslmode` for these settings with this mode of the server; `None` for `prefer`, the default.
    pub(crate) fn mode_word(&self, mode: SslMode) -> Option<&'static str> {
        match (mode, self.verify) {
            (SslMode::Disable, _) => Some("disable"),
            (SslMode::Prefer, _) if self.plain_first => Some("allow"),
            (SslMode::Require, Verify::Nothing) => Some("require"),
            (SslMode::Require, Verify::Authority) => Some("verify-ca"),
            (SslMode::Require, Verify::Host) => Some("verify-full"),
            _ => None,
        }
    }
}

/// What is checked of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// Nothing. Encryption protects against eavesdropping, not against an attacker in between.
    #[default]
    Nothing,
    /// That a trusted authority issued it.
    Authority,
    /// That a trusted authority issued it for the host that was asked for.
    Host,
}

/// The trusted authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// The certificates of a PEM file, which is read again for each connection.
    File(PathBuf),
    /// The authorities of the operating system, read when the pool is created.
    System,
}

/// A certificate with its private key. Both files are read again for each connection, so they may be renewed while the
/// pool runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file with the certificate, followed by its chain if it has one.
    pub certificate: PathBuf,
    /// A PEM file with the private key, not encrypted.
    pub key: PathBuf,
}

impl Tls {
    /// Returns an error that names the first unsupported or contradictory setting.
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
