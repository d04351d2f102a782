//! Gets from a configuration to an open session on a suitable host: connection strings, names, sockets, TLS, roles, and
//! the order of hosts.
//!
//! Invariant: nothing here sends a statement, except the question for a server's role.

pub(crate) mod credentials;
mod dialer;
pub(crate) mod dns;
pub(crate) mod failover_watch;
pub(crate) mod host_binding;
mod host_registry;
mod hosts;
pub(crate) mod passfile;
pub(crate) mod router;
pub(crate) mod service_file;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod url;

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod handshake;
#[cfg(feature = "tls")]
mod verifier;

/// The password of a passfile, for fuzzing.
#[cfg(fuzzing)]
pub fn passfile_password(text: &[u8], host: &str, port: u16, database: &str, user: &str) -> Option<Vec<u8>> {
    let wanted = passfile::Wanted {
        host: host.to_owned(),
        port,
        database: database.to_owned(),
        user: user.to_owned(),
    };
    passfile::password(text, &wanted)
}

/// The options of a service, for fuzzing.
#[cfg(fuzzing)]
pub fn service_options(text: &str, service: &str) -> Result<Option<Vec<(String, String)>>, crate::InvalidUrl> {
    service_file::find(text, service)
}
