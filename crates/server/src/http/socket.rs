//! The TCP socket of a connection, which records when the peer takes no bytes.
//!
//! Invariant: bytes pass unchanged. It lies below TLS, so that what is recorded is what the peer's kernel takes, and not
//! what TLS buffers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::timeouts::Activity;

/// A socket that records its writes in an [`Activity`].
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Sends the end of the stream, and reads until the peer has closed too: closing with bytes unread would reset the
    /// connection, and what was sent last could be lost. The timeout `Linger` bounds this.
    pub(super) async fn linger(mut self) -> io::Result<()> {
        self.shutdown().await?;
        self.activity.note_linger();
        let mut discarded = [0_u8; 1024];
        while self.read(&mut discarded).await? != 0 {}
        Ok(())
    }

    fn note_write(&self, wrote: &Poll<io::Result<usize>>) {
        self.activity.note_write(wrote.is_ready());
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.activity.wants_reset() {
            // If this fails, the kernel keeps the unsent bytes for its usual time.
            let _ = self.stream.set_zero_linger();
        }
    }
}
