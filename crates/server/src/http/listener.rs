//! Sockets to listen on. Invariant: no error of accepting ends or spins the loop that accepts, and none leaves those who
//! connect without an answer while another descriptor can be had.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel queues before they are accepted; it may cap this (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The sockets of one service: a name may stand for several addresses.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
    /// The one whose turn it is to be asked first, so that none has to wait for another.
    first: usize,
    /// A descriptor to give up when there is no other, so that a client that connects then can be told.
    spare: Option<File>,
}

impl From<Vec<TcpListener>> for Listeners {
    fn from(sockets: Vec<TcpListener>) -> Self {
        Self {
            sockets,
            first: 0,
            spare: spare(),
        }
    }
}

impl From<TcpListener> for Listeners {
    fn from(socket: TcpListener) -> Self {
        vec![socket].into()
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Served(TcpStream),
    /// There is no descriptor left: it can only be told so, at once.
    Surplus(TcpStream),
}

/// Listens on `address`; port 0 takes a free one, and `[::]` is every address, those of IPv4 too. Must be called on the
/// runtime that will accept.
///
/// # Errors
/// Those of the system: the address is in use, is not ours, or needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // What this is by default differs between systems.
        socket.set_only_v6(false)?;
    }
    // Elsewhere it would let another process take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Listeners {
    /// The next connection. Out of memory, it pauses, longer each time, and tries again.
    /// Cancel safe: no connection is lost.
    pub(super) async fn accept(&mut self) -> Accepted {
        let mut pause = SHORTEST_PAUSE;
        loop {
            if self.spare.is_none() {
                self.spare = spare();
            }
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(stream) => return Accepted::Served(stream),
                // The peer gave up before it was accepted.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    if is_out_of_descriptors(&error)
                        && let Some(stream) = self.accept_with_spare()
                    {
                        tracing::warn!(%error, "a connection was refused: too many open files");
                        return Accepted::Surplus(stream);
                    }
                    tracing::warn!(%error, ?pause, "accepting a connection failed");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let count = self.sockets.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            if let Poll::Ready(accepted) = self.sockets[index].poll_accept(cx) {
                self.first = index + 1;
                return Poll::Ready(accepted.map(|(stream, _peer)| stream));
            }
        }
        Poll::Pending
    }

    /// Accepts what is waiting with the descriptor that was kept for this.
    fn accept_with_spare(&mut self) -> Option<TcpStream> {
        drop(self.spare.take()?);
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_accept(&mut cx) {
            Poll::Ready(Ok(stream)) => Some(stream),
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
