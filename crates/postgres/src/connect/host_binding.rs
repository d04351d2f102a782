//! The host of a connection, and whether the connection should still be used. Invariant: an evicted connection stays
//! evicted, because the generation of its address only grows.

use std::sync::Arc;

use tokio_postgres::{Client, config::SslMode};

use super::{
    dialer::Dialer,
    failover_watch::FailoverWatch,
    host_registry::Generation,
    socket::{Endpoint, Socket},
};
use crate::{ConnectionError, server_role::ServerRole, tap::SqlStateCode};

/// The host of one connection.
pub(crate) struct HostBinding {
    pub(super) watch: Arc<FailoverWatch>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) host: usize,
    pub(super) endpoint: Endpoint,
    pub(super) generation: Generation,
    /// The generation when the connection was opened.
    pub(super) opened_in: u64,
    /// The role of the server when the connection was opened.
    pub(super) role: ServerRole,
    pub(super) is_encrypted: bool,
}

impl HostBinding {
    /// Returns the host, as the configuration names it.
    pub(crate) fn name(&self) -> &str {
        self.watch.name(self.host)
    }

    /// Whether the connection was evicted. Costs an atomic load.
    pub(crate) fn is_stale(&self) -> bool {
        self.generation.current() != self.opened_in
    }

    /// Notes an error that the server sent. Returns true if the role of the server is now in doubt.
    ///
    /// | SQLSTATE | What follows |
    /// |---|---|
    /// | `25006` | The role is in doubt: the session asks for it before its next use. The application may also have begun a read-only transaction itself |
    /// | `57P01` | Only the watch looks around: an administrator may have ended this session alone, and a server that shuts down tells each session |
    /// | `57P02`, `57P03`, `08…` | All connections to the host are evicted |
    ///
    /// `08P01` has no effect: it concerns what the client sent.
    pub(crate) fn report(&self, code: SqlStateCode) -> bool {
        match code.as_str() {
            "25006" => return true,
            "57P01" => self.watch.check_hosts(),
            code if is_outage(code) => self.evict(code),
            _ => {}
        }
        false
    }

    /// Evicts the connections to this host.
    fn evict(&self, reason: &str) {
        // A connection of an older generation reports a failure that was handled.
        if !self.is_stale() {
            self.watch.evict(self.host, reason);
        }
    }

    /// Asks the server for its role. If it is no longer suitable, all connections to the host are evicted.
    pub(crate) async fn check_role(&self, client: &Client) -> Result<(), ConnectionError> {
        let role = ServerRole::ask(client).await?;
        if self.watch.keeps(self.role, role) {
            return Ok(());
        }
        self.evict("its role has changed");
        Err(self.watch.unsuitable(self.host))
    }

    /// Whether the pool depends on the role of the server.
    pub(crate) fn role_matters(&self) -> bool {
        self.watch.role_matters()
    }

    /// Connects to the same server again, encrypted if the session is.
    pub(crate) async fn reconnect(&self) -> Result<Socket, ConnectionError> {
        let mode = match self.is_encrypted {
            true => SslMode::Require,
            false => SslMode::Disable,
        };
        let host = &self.watch.targets[self.host];
        self.dialer.reach(host, &self.endpoint, mode).await
    }
}

/// Whether an SQLSTATE says that the server stops or is not ready.
pub(crate) fn is_outage(code: &str) -> bool {
    matches!(code, "57P02" | "57P03") || (code.starts_with("08") && code != "08P01")
}
