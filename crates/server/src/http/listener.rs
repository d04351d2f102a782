//! The sockets that the service listens on. Invariant: no accept error ends the accept loop or makes it spin. A client that
//! connects while the process is out of file descriptors still gets a response, as long as one descriptor can be freed.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::client_address::TrustedProxies;
use super::opening::Opening;
use super::peer::Peer;
use super::tls::Tls;

/// Connections that the kernel queues before they are accepted. The kernel may cap it (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The pause after a failed accept, doubled after each further failure up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The listening sockets of one service: a host name may resolve to several addresses.
#[derive(Debug)]
pub struct TcpListeners {
    sockets: Vec<TcpListener>,
    /// The index of the socket that is polled first. It rotates, so that no socket starves another.
    first: usize,
    /// An open file that is closed when the process has run out of descriptors, to accept and refuse one client.
    spare: Option<File>,
    opening: Opening,
}

impl From<Vec<TcpListener>> for TcpListeners {
    fn from(sockets: Vec<TcpListener>) -> Self {
        Self {
            sockets,
            first: 0,
            spare: spare(),
            opening: Opening::default(),
        }
    }
}

impl From<TcpListener> for TcpListeners {
    fn from(socket: TcpListener) -> Self {
        vec![socket].into()
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// An accepted connection.
pub(super) enum Accepted {
    Normal(TcpStream, Peer),
    /// Accepted with the spare descriptor: refuse it at once.
    OutOfDescriptors(TcpStream),
}

/// Listens on `address`. Port 0 picks a free port; `[::]` means every address, those of IPv4 too. Call it on the runtime
/// that will accept.
///
/// # Errors
///
/// The system's: the address is in use, is not one of this machine, or needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The default differs between systems.
        socket.set_only_v6(false)?;
    }
    // On Windows the option would let another process take over the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl TcpListeners {
    /// Serves HTTPS alone, where `tls` is given.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.opening.tls = tls;
        self
    }

    /// Expects a PROXY protocol header on every connection from these addresses, and on no other.
    #[must_use]
    pub fn with_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.opening.proxies = proxies;
        self
    }

    /// Returns what a peer must send before its first request.
    pub(super) fn opening(&self) -> Opening {
        self.opening.clone()
    }

    /// Returns the next connection. After an error such as lack of memory it pauses, longer each time, and tries again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub(super) async fn accept(&mut self) -> Accepted {
        let mut pause = SHORTEST_PAUSE;
        loop {
            if self.spare.is_none() {
                self.spare = spare();
            }
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, peer)) => return Accepted::Normal(stream, peer),
                // The peer gave up before it was accepted.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    if is_out_of_descriptors(&error)
                        && let Some(stream) = self.accept_with_spare()
                    {
                        tracing::warn!(%error, "a connection was refused: too many open files");
                        return Accepted::OutOfDescriptors(stream);
                    }
                    tracing::warn!(%error, ?pause, "accepting a connection failed");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Peer)>> {
        let count = self.sockets.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            if let Poll::Ready(accepted) = self.sockets[index].poll_accept(cx) {
                self.first = index + 1;
                return Poll::Ready(accepted.map(|(stream, address)| (stream, address.into())));
            }
        }
        Poll::Pending
    }

    /// Closes the spare file and accepts one waiting connection with its descriptor.
    fn accept_with_spare(&mut self) -> Option<TcpStream> {
        drop(self.spare.take()?);
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_accept(&mut cx) {
            Poll::Ready(Ok((stream, _))) => Some(stream),
            _ => None,
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(error, Some(Errno::MFILE | Errno::NFILE))
}
