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
pub(crate) mod router;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod url;

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod handshake;
#[cfg(feature = "tls")]
mod verifier;
