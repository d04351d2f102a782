//! The bytes of a connection as HTTP sees them, plain or decrypted. It records what arrives, and notices a peer that has
//! gone while it waits for its response.
//!
//! Invariant: bytes pass unchanged, but for hyper's own responses to heads that it cannot parse, and only small writes are
//! copied. TLS costs plain connections one comparison.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::request_layer::replacement;
use super::socket::Socket;
use super::timeouts::{Activity, PeerCheck};

/// Vectored writes of up to this many bytes are copied into one buffer: that costs less than the kernel's work for
/// several pieces.
const SMALL: usize = 1024;

/// Sent before the response to a half-closed peer, to learn whether the peer is still there. A client must expect an
/// interim response at any time (RFC 9110, section 15.2). The kernel of a peer that has gone answers with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the bytes of a connection travel.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Socket),
    /// Boxed, because it is large: plain connections stay small.
    Tls(Box<TlsStream<Socket>>),
}

/// Calls a method of [`AsyncRead`] or [`AsyncWrite`] on whichever it is.
macro_rules! on_transport {
    ($transport:expr, $method:ident($($argument:expr),*)) => {
        match $transport {
            Transport::Plain(socket) => Pin::new(socket).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl Transport {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut().0,
        }
    }

    /// Looks for the end of the peer's stream, without taking bytes of a further request. `Ready(true)` if it has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self {
            Self::Plain(socket) => {
                let mut byte = [0];
                let peeked = socket.tcp().poll_peek(cx, &mut ReadBuf::new(&mut byte));
                peeked.map_ok(|length| length == 0)
            }
            // The end is a message of TLS, which cannot be seen without decrypting. At most one read of the socket is
            // kept until HTTP asks for it. An end without this message is an error here: the peer has gone.
            Self::Tls(stream) => {
                let filled = Pin::new(stream).poll_fill_buf(cx);
                filled.map_ok(|bytes| bytes.is_empty())
            }
        }
    }

    /// Sends the probe, unless other bytes already wait for the peer and serve as one.
    fn send_probe(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let sent = match self {
            Self::Plain(socket) => match socket.tcp().try_write(PROBE) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                sent => sent?,
            },
            Self::Tls(stream) if stream.get_ref().1.wants_write() => return Ok(()),
            // TLS buffers what the socket does not take, so it is never pending here.
            Self::Tls(stream) => match Pin::new(stream).poll_write(cx, PROBE) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return Ok(()),
            },
        };
        match sent == PROBE.len() {
            true => Ok(()),
            // The rest would have to precede the response. A peer whose window has no room for 25 bytes has gone.
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Tells the peer of a TLS connection that its end is not an attacker's work. Sends only what the socket takes at once.
    fn send_close_notify(&mut self) {
        if let Self::Tls(stream) = self {
            let (socket, session) = stream.get_mut();
            session.send_close_notify();
            // If it is not sent, the peer reports an unexpected end, as it would without the attempt.
            let _ = session.write_tls(&mut TryWrite(socket));
        }
    }
}

/// Writes what the socket takes at once.
struct TryWrite<'a>(&'a Socket);

impl io::Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.tcp().try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that records its reads in an [`Activity`].
#[derive(Debug)]
pub(super) struct ObservedStream {
    transport: Transport,
    activity: Arc<Activity>,
    shut: bool,
    /// What is being sent in place of hyper's own response.
    replacement: Option<Replacement>,
}

#[derive(Debug)]
struct Replacement {
    bytes: Vec<u8>,
    sent: usize,
}

impl ObservedStream {
    pub(super) fn new(transport: Transport, activity: Arc<Activity>) -> Self {
        Self {
            transport,
            activity,
            shut: false,
            replacement: None,
        }
    }

    /// Sends something else in place of `buf` if that is hyper's own response; `None` if it is not. hyper closes the
    /// connection after it, so nothing follows.
    fn poll_replaced(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.replacement.is_none() {
            let bytes = replacement(buf)?;
            self.replacement = Some(Replacement { bytes, sent: 0 });
        }
        let Replacement { bytes, sent } = self.replacement.as_mut()?;
        while *sent < bytes.len() {
            match on_transport!(&mut self.transport, poll_write(cx, &bytes[*sent..])) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(more)) => *sent += more,
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Ok(buf.len())))
    }

    /// Detects that an HTTP/1 peer has gone while it waits for its response. An error means that it has gone.
    ///
    /// hyper does not read meanwhile. The end of the peer's stream alone proves nothing: a peer that only finished
    /// sending and one that has gone look the same until something is sent to them.
    fn watch_peer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.activity.is_awaiting_response() {
            return Ok(());
        }
        if self.activity.is_half_closed() {
            let check = self.activity.take_peer_check();
            return check.map_or(Ok(()), |check| self.check_peer(cx, check));
        }
        match self.transport.poll_end(cx) {
            Poll::Ready(Ok(true)) => self.activity.note_half_close(),
            Poll::Ready(Err(error)) => return Err(error),
            // A pipelined request, or nothing yet.
            Poll::Ready(Ok(false)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn check_peer(&mut self, cx: &mut Context<'_>, check: PeerCheck) -> io::Result<()> {
        if let Some(error) = self.transport.socket().tcp().take_error()? {
            return Err(error);
        }
        match check {
            PeerCheck::SocketError => Ok(()),
            PeerCheck::Probe => self.transport.send_probe(cx),
        }
    }
}

impl AsyncRead for ObservedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(on_transport!(&mut self.transport, poll_read(cx, buf)))?;
        if buf.filled().len() > before {
            self.activity.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_replaced(cx, buf) {
            Some(replaced) => replaced,
            None => on_transport!(&mut self.transport, poll_write(cx, buf)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = [0; SMALL];
        match gather(bufs, &mut all) {
            Some(all) => self.poll_write(cx, all),
            None => on_transport!(&mut self.transport, poll_write_vectored(cx, bufs)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper calls this at each of its polls with nothing left to send, so also while it waits for the response.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(on_transport!(&mut self.transport, poll_flush(cx)))?;
        Poll::Ready(self.watch_peer(cx))
    }

    /// Sends the end of the stream. If the peer may still be sending a body that nobody reads, it then reads and
    /// discards until the peer has closed too: closing with bytes unread would reset the connection and could destroy
    /// the response on its way. The timeout `Linger` bounds this.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(on_transport!(&mut self.transport, poll_shutdown(cx)))?;
            self.shut = true;
            self.activity.note_linger();
        }
        if !self.activity.has_unread_body() {
            return Poll::Ready(Ok(()));
        }
        let mut discarded = [0_u8; 4096];
        // A bounded number of reads per poll, so that a fast peer does not keep the core to itself.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut discarded);
            // From the socket: nobody needs the bytes decrypted.
            match ready!(Pin::new(self.transport.socket_mut()).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Copies the pieces into one buffer; `None` if they do not fit.
fn gather<'a>(pieces: &[io::IoSlice<'_>], all: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        let start = end;
        end += piece.len();
        all.get_mut(start..end)?.copy_from_slice(piece);
    }
    Some(&all[..end])
}

impl Drop for ObservedStream {
    fn drop(&mut self) {
        if self.activity.ended_idle() && !self.shut {
            self.transport.send_close_notify();
        }
    }
}
