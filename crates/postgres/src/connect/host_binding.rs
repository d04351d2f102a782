//! Where a connection goes, and whether that is still where it should go. Invariant: what is evicted stays evicted:
//! the epoch of a binding only grows.

use std::sync::Arc;

use tokio_postgres::{Client, config::SslMode};

use super::{
    dialer::Dialer,
    failover_watch::FailoverWatch,
    host_registry::HostEpoch,
    role::ServerRole,
    socket::{Endpoint, Socket},
};
use crate::{ConnectionError, session::tap::SqlStateCode};

/// The binding of one connection.
pub(crate) struct HostBinding {
    pub(super) watch: Arc<FailoverWatch>,
    pub(super) dialer: Arc<Dialer>,
    pub(super) host: usize,
    pub(super) endpoint: Endpoint,
    pub(super) epoch: HostEpoch,
    /// The epoch in which the connection was begun.
    pub(super) born: u64,
    /// What the server was then.
    pub(super) role: ServerRole,
    pub(super) is_encrypted: bool,
}

impl HostBinding {
    /// The host, as the configuration names it.
    pub(crate) fn name(&self) -> &str {
        self.watch.name(self.host)
    }

    /// Whether connections to this binding that are as old as this one have been given up. Costs a load.
    pub(crate) fn is_stale(&self) -> bool {
        self.epoch.now() != self.born
    }

    /// Takes note of an error that a session here has met, and says whether it makes the server's role doubtful.
    ///
    /// | SQLSTATE | What follows |
    /// |---|---|
    /// | `25006` | the role is doubtful: the session asks before it is used again, as the application may have begun a read-only transaction by itself |
    /// | `57P01` | nothing but a look around: an administrator may have ended this session alone, and a server that shuts down tells each session by itself |
    /// | `57P02`, `57P03`, `08…` | all connections to this host are given up |
    ///
    /// `08P01` is none of those: it is about what the client sent.
    pub(crate) fn report(&self, code: SqlStateCode) -> bool {
        match code.as_str() {
            "25006" => return true,
            "57P01" => self.watch.look_around(),
            code if tells_of_outage(code) => self.evict(code),
            _ => {}
        }
        false
    }

    /// Gives up the connections to this host.
    fn evict(&self, reason: &str) {
        // An older connection brings old news.
        if !self.is_stale() {
            self.watch.give_up(self.host, reason);
        }
    }

    /// Asks the server what it is. One that is no longer what the connection was opened for loses all its
    /// connections.
    pub(crate) async fn check_role(&self, client: &Client) -> Result<(), ConnectionError> {
        let role = ServerRole::ask(client).await?;
        if self.watch.keeps(self.role, role) {
            return Ok(());
        }
        self.evict("its role has changed");
        Err(self.watch.unsuitable(self.host))
    }

    /// Whether the pool cares what the server is.
    pub(crate) fn role_matters(&self) -> bool {
        self.watch.role_matters()
    }

    /// A second connection to the same server, encrypted if the first is.
    pub(crate) async fn reconnect(&self) -> Result<Socket, ConnectionError> {
        let mode = match self.is_encrypted {
            true => SslMode::Require,
            false => SslMode::Disable,
        };
        let host = &self.watch.targets[self.host];
        self.dialer.reach(host, &self.endpoint, mode).await
    }
}

/// Whether the server is, or was, about to go or not yet there.
pub(crate) fn tells_of_outage(code: &str) -> bool {
    matches!(code, "57P02" | "57P03") || (code.starts_with("08") && code != "08P01")
}
