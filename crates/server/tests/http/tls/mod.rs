//! The HTTP transport over TLS, with real handshakes.

mod handshakes;
mod identities;
mod peers;
mod reload;
pub(crate) mod support;
