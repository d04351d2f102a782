//! The socket, with a note of what passes. Invariant: bytes go through unchanged, and only a few of them are copied.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::{Activity, Look};

/// Up to so many bytes in pieces are sent as one: copying them costs less than what the kernel does for pieces.
const SMALL: usize = 1024;

/// Asks a peer that has ended its side whether it is still there, if it is sent before the answer. A client must expect
/// it at any time (RFC 9110, section 15.2); the system of one that has gone answers it with a reset.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A socket whose reads and writes are noted in an [`Activity`].
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    shut: bool,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            shut: false,
        }
    }

    /// Looks after an HTTP/1 peer that waits for its answer. An error means that it has gone.
    ///
    /// hyper does not read meanwhile, and need not: what ends here is only the peer's own side. That of one that has
    /// gone looks the same, until it is sent something.
    fn watch_peer(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.activity.is_awaited() {
            return Ok(());
        }
        if self.activity.is_half_closed() {
            return self.activity.take_look().map_or(Ok(()), |look| self.look(look));
        }
        let mut byte = [0];
        match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => self.activity.note_half_close(),
            Poll::Ready(Err(error)) => return Err(error),
            // A further request, or nothing yet.
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn look(&self, look: Look) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        if look == Look::State {
            return Ok(());
        }
        match self.stream.try_write(PROBE) {
            Ok(sent) if sent == PROBE.len() => Ok(()),
            // The rest would have to be sent before the answer; a peer this far behind has gone.
            Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
            // What it does not take is as good a question.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn note<T>(&self, wrote: &Poll<io::Result<T>>) {
        self.activity.note_write(wrote.is_ready());
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = [0; SMALL];
        let wrote = match gather(bufs, &mut all) {
            Some(all) => Pin::new(&mut self.stream).poll_write(cx, all),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.note(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper calls this whenever it is polled and has nothing left to send: while it waits for the answer, too.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(self.watch_peer(cx))
    }

    /// Sends the end of the stream. If the peer may still be sending a body nobody reads, it then reads
    /// and forgets until the peer has ended too: closing with bytes unread would reset the connection and
    /// could destroy the answer on its way. The connection's timer bounds this.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
            self.activity.note_linger();
        }
        if !self.activity.has_unread_body() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [0_u8; 4096];
        // A bounded number of reads per turn: a fast peer must not keep this task to itself.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// All pieces in one, if they fit in.
fn gather<'a>(pieces: &[io::IoSlice<'_>], all: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        let start = end;
        end += piece.len();
        all.get_mut(start..end)?.copy_from_slice(piece);
    }
    Some(&all[..end])
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.activity.wants_reset() {
            // Failing only leaves the kernel its usual time to give up.
            let _ = self.stream.set_zero_linger();
        }
    }
}
