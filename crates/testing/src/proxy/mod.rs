//! A TCP proxy that disturbs connections as bad networks do. Invariant: a fault is in effect when its call returns; no
//! byte passes a [frozen](Proxy::freeze) proxy, not even one that it had already read.

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

/// A proxy in front of one server, on its own port. Without faults it forwards all bytes. Faults add up until
/// [`heal`](Self::heal). Dropping it closes all connections and the port.
///
/// It runs as tasks of the runtime in which it was created.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

/// The traffic of a [`Proxy`] since its creation.
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
    /// Starts a proxy on 127.0.0.1 for the server at this address, which may start later. While the server does not
    /// listen, connections of clients are reset.
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

    /// The URL of the server with the host and port of this proxy.
    #[must_use]
    pub fn url(&self, server: &str) -> String {
        let start = server.find("://").map_or(0, |at| at + 3);
        let end = server[start..].find(['/', '?']).map_or(server.len(), |at| start + at);
        let host = server[start..end].rfind('@').map_or(start, |at| start + at + 1);
        format!("{}{}{}", &server[..host], self.address, &server[end..])
    }

    /// Returns the traffic so far.
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

    /// Connects new clients to another server. Open connections stay as they are; [`cut`](Self::cut) ends them.
    pub fn lead_to(&self, server: impl Into<SocketAddr>) {
        self.shared.server.send_replace(server.into());
    }

    /// Ends all faults. Held bytes are forwarded; half-open connections stay half-open, and cut ones are lost.
    pub fn heal(&self) {
        self.change(Faults::heal);
    }

    /// Resets all open connections on both sides and returns when that is done. New ones work.
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

    /// Forwards nothing in either direction, not even the end of a connection: [`hold`](Self::hold) for both. New
    /// connections are accepted and get no answer.
    pub fn freeze(&self) {
        self.change(|faults| faults.hold = [true; 2]);
    }

    /// Forwards nothing in this direction. After [`heal`](Self::heal) everything arrives, in order.
    pub fn hold(&self, direction: Direction) {
        self.change(|faults| faults.hold[direction as usize] = true);
    }

    /// Delays everything in this direction by this time. The throughput does not change.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.change(|faults| faults.delay[direction as usize] = by);
    }

    /// Waits this long before it connects a new client to the server.
    pub fn delay_connects(&self, by: Duration) {
        self.change(|faults| faults.delay_connects = by);
    }

    /// Closes the server's side of all connections without the clients noticing, as when a router has lost its state:
    /// what a client sends is dropped, and it gets no answer. Returns when that is done. New connections work.
    pub async fn half_open(&self) {
        let last = self.shared.open.borrow().accepted;
        self.change(|faults| faults.orphan = last);
        self.shared
            .until_open(|open| open.servers.first().is_none_or(|number| *number > last))
            .await;
    }

    /// Inverts one byte: the next one after `after` more bytes in this direction, counted over all connections.
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
        self.acceptor.abort(); // this drops the connections too
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
