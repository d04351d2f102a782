//! The socket of a connection, which records its reads and writes.
//!
//! Invariant: bytes pass unchanged, but for hyper's own responses to heads that it cannot parse, and only small writes are
//! copied.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::request_layer::replacement;
use super::timeouts::{Activity, PeerCheck};

/// Vectored writes of up to this many bytes are copied into one buffer: that costs less than the kernel's work for
/// several pieces.
const SMALL: usize = 1024;

/// Sent before the response to a half-closed peer, to learn whether the peer is still there. A client must expect an
/// interim response at any time (RFC 9110, section 15.2). The kernel of a peer that has gone answers with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A socket that records its reads and writes in an [`Activity`].
#[derive(Debug)]
pub(super) struct ObservedSocket {
    stream: TcpStream,
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

impl ObservedSocket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
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
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]) {
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
    fn watch_peer(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.activity.is_awaiting_response() {
            return Ok(());
        }
        if self.activity.is_half_closed() {
            return self
                .activity
                .take_peer_check()
                .map_or(Ok(()), |check| self.check_peer(check));
        }
        let mut byte = [0];
        match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => self.activity.note_half_close(),
            Poll::Ready(Err(error)) => return Err(error),
            // A pipelined request, or nothing yet.
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn check_peer(&self, check: PeerCheck) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        if check == PeerCheck::SocketError {
            return Ok(());
        }
        match self.stream.try_write(PROBE) {
            Ok(sent) if sent == PROBE.len() => Ok(()),
            // The rest would have to precede the response. A peer whose window has no room for 25 bytes has gone.
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            // The bytes that already wait for the peer serve as the probe.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note_write<T>(&self, wrote: &Poll<io::Result<T>>) {
        self.activity.note_write(wrote.is_ready());
    }
}

impl AsyncRead for ObservedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ObservedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = match self.poll_replaced(cx, buf) {
            Some(replaced) => replaced,
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        };
        self.note_write(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = [0; SMALL];
        let wrote = match gather(bufs, &mut all) {
            Some(all) => match self.poll_replaced(cx, all) {
                Some(replaced) => replaced,
                None => Pin::new(&mut self.stream).poll_write(cx, all),
            },
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.note_write(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper calls this at each of its polls with nothing left to send, so also while it waits for the response.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(self.watch_peer(cx))
    }

    /// Sends the end of the stream. If the peer may still be sending a body that nobody reads, it then reads and
    /// discards until the peer has closed too: closing with bytes unread would reset the connection and could destroy
    /// the response on its way. The timeout `Linger` bounds this.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
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
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
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

impl Drop for ObservedSocket {
    fn drop(&mut self) {
        if self.activity.wants_reset() {
            // If this fails, the kernel keeps the unsent bytes for its usual time.
            let _ = self.stream.set_zero_linger();
        }
    }
}
