//! A TCP proxy that does to connections what bad networks do. Invariant: what a call asks for holds when it returns;
//! not a byte passes a [frozen](Proxy::freeze) proxy, not even one that was already under way.

mod connection;
mod faults;
mod pump;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

pub use faults::Direction;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use cenote_local::{Error, Result, supervise::free_port};
use faults::{Faults, Shared};

/// Stands between clients and one server, on a port of its own. It passes everything on until told otherwise; the
/// faults add up until [`heal`](Self::heal). Dropping it closes all connections and the port.
///
/// It works as tasks of the runtime it was made in.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

/// What has passed a [`Proxy`] since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Connections that clients made, refused ones included.
    pub accepted: u64,
    /// Of those, the ones that are open now, half-open ones included.
    pub open: usize,
    /// Bytes given to the server.
    pub to_server: u64,
    /// Bytes given to clients.
    pub to_client: u64,
}

impl Proxy {
    /// A proxy on 127.0.0.1 for the server at this address, which need not be there yet. A client whose connection
    /// cannot be passed on, because nobody listens there, is reset.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no free port.
    pub async fn to(server: impl Into<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await;
        let listener = listener.map_err(|cause| failed("listening on 127.0.0.1", cause))?;
        let address = listener.local_addr();
        let address = address.map_err(|cause| failed("asking for a proxy's address", cause))?;
        let shared = Arc::new(Shared::new(server.into()));
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            acceptor,
        })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the server, by way of this proxy: host and port replaced.
    #[must_use]
    pub fn url(&self, server: &str) -> String {
        let start = server.find("://").map_or(0, |at| at + 3);
        let end = server[start..].find(['/', '?']).map_or(server.len(), |at| start + at);
        let host = server[start..end].rfind('@').map_or(start, |at| start + at + 1);
        format!("{}{}{}", &server[..host], self.address, &server[end..])
    }

    /// What has passed so far.
    #[must_use]
    pub fn counts(&self) -> ProxyCounts {
        let passed = |direction: Direction| self.shared.passed[direction as usize].load(Ordering::Relaxed);
        let open = self.shared.open.borrow();
        ProxyCounts {
            accepted: open.accepted,
            open: open.clients.len(),
            to_server: passed(Direction::ToServer),
            to_client: passed(Direction::ToClient),
        }
    }

    /// Leads new connections to another server from now on. Those that are open stay where they are;
    /// [`cut`](Self::cut) ends them.
    pub fn lead_to(&self, server: impl Into<SocketAddr>) {
        self.shared.server.send_replace(server.into());
    }

    /// Ends all faults. What was held back goes on; half-open connections stay as they are, and what was cut is gone.
    pub fn heal(&self) {
        self.change(Faults::heal);
    }

    /// Resets all connections, in both directions, and returns when that is done. New ones pass.
    pub async fn cut(&self) {
        let last = self.shared.open.borrow().accepted;
        self.change(|faults| faults.cut = last);
        self.shared
            .until_open(|open| open.clients.first().is_none_or(|number| *number > last))
            .await;
    }

    /// Resets all connections, and new ones as soon as they are made.
    pub async fn refuse(&self) {
        self.change(|faults| faults.refuse = true);
        self.cut().await;
    }

    /// Lets nothing through in either direction, not even that a side has closed: [`hold`](Self::hold) for both. New
    /// connections are accepted and silent.
    pub fn freeze(&self) {
        self.change(|faults| faults.hold = [true; 2]);
    }

    /// Lets nothing through in this direction. After [`heal`](Self::heal) all of it goes on, as TCP would have it.
    pub fn hold(&self, direction: Direction) {
        self.change(|faults| faults.hold[direction as usize] = true);
    }

    /// Lets everything in this direction arrive so much later. Throughput stays.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.change(|faults| faults.delay[direction as usize] = by);
    }

    /// Lets so much time pass before a new connection reaches the server.
    pub fn delay_connects(&self, by: Duration) {
        self.change(|faults| faults.delay_connects = by);
    }

    /// Closes the server's side of all connections and tells the clients nothing, as when a router between them has
    /// forgotten them: what a client sends disappears, and nothing ever comes back. Returns when that is done. New
    /// connections pass.
    pub async fn half_open(&self) {
        let last = self.shared.open.borrow().accepted;
        self.change(|faults| faults.orphan = last);
        self.shared
            .until_open(|open| open.servers.first().is_none_or(|number| *number > last))
            .await;
    }

    /// Inverts a byte: the one that comes when `after` more have passed in this direction, over all connections.
    pub fn corrupt(&self, direction: Direction, after: u64) {
        self.change(|faults| faults.corrupt[direction as usize] = Some(after));
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }
}

fn failed(doing: &str, cause: io::Error) -> Error {
    let doing = doing.into();
    Error::Io { doing, cause }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort(); // and with it all connections
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let number = shared.admit();
                    connections.spawn(connection::run(client, number, Arc::clone(&shared)));
                }
                // The process has no file descriptors left; it may have some in a moment.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_keeps_all_but_host_and_port() {
        let proxy = Proxy::to(([127, 0, 0, 1], 1)).await.unwrap();
        let here = proxy.address();
        for (server, expected) in [
            (
                "postgresql://me:a@b@host:5432/db?x=1",
                format!("postgresql://me:a@b@{here}/db?x=1"),
            ),
            ("redis://:secret@127.0.0.1:1/", format!("redis://:secret@{here}/")),
            (
                "postgresql://host?user=me@home",
                format!("postgresql://{here}?user=me@home"),
            ),
            ("http://host", format!("http://{here}")),
        ] {
            assert_eq!(proxy.url(server), expected);
        }
    }
}
