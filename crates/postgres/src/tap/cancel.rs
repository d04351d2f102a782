//! Cancels a statement without endangering the next one.
//!
//! A cancel request has its own connection, and tokio-postgres returns when the request is sent. The signal may arrive
//! much later, and then cancels the statement that runs at that time.
//!
//! Invariant: success means that the server has handled the request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use cenote_pool::Chain;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use super::stream::{AlreadyEncrypted, Closing};

/// Why it is unknown whether the server has handled a cancel request. It may take effect at any time, so close the
/// connection that it was meant for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CancelError {
    /// The server did not close the cancel request's connection in time.
    #[error("the server did not deal with a cancel request in time")]
    Timeout,
    /// The request could not be sent.
    #[error("cannot send a cancel request: {}", Chain(.0))]
    Send(tokio_postgres::Error),
}

/// Cancels the statement that runs on the connection of `token`, over a new `stream` to the same server, encrypted if
/// that connection is.
///
/// A request that arrives before the statement has begun is lost. Wait for the connection to become quiet, and send
/// another request if it does not.
///
/// # Cancel safety
/// If the future is dropped, the request may still hit a later statement.
pub(crate) async fn cancel<S>(token: &CancelToken, stream: S, deadline: Instant) -> Result<(), CancelError>
where
    S: TlsStream + Unpin,
{
    let stream = ToEof {
        stream,
        closing: Closing::default(),
    };
    // `cancel_query_raw` shuts its stream down at the end, which waits for the server here.
    match timeout_at(deadline, token.cancel_query_raw(stream, AlreadyEncrypted)).await {
        Ok(result) => result.map_err(CancelError::Send),
        Err(_) => Err(CancelError::Timeout),
    }
}

/// A stream whose shutdown waits until the server has closed it.
struct ToEof<S> {
    stream: S,
    closing: Closing,
}

impl<S: AsyncRead + Unpin> AsyncRead for ToEof<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ToEof<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.closing.poll(&mut this.stream, cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for ToEof<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}
