//! Wraps a socket so that [`Frames`] sees the bytes.
//!
//! Invariant: the published state describes exactly the bytes that the socket had accepted and returned when the poll
//! ended.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::frames::Frames;
use super::status::{self, Status};

/// A stream whose messages are followed. It is inside TLS: bytes here are not encrypted.
pub(super) struct Tap<S> {
    stream: S,
    frames: Frames,
    status: Arc<Status>,
    /// `UNDRAINED` and `BLOCKED`, which depend on the socket and not on the bytes.
    socket: u32,
    closing: Closing,
    /// Whether the server has sent anything yet.
    greeted: bool,
}

/// The server is not PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("the server is not PostgreSQL")]
struct NotPostgres;

/// Whether an error means that another program than PostgreSQL answered the startup packet.
pub(super) fn is_not_postgres(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    let inner = cause.and_then(io::Error::get_ref);
    inner.is_some_and(|cause| cause.is::<NotPostgres>())
}

/// Checks the first bytes after the startup packet. Otherwise the answer of a web server, for example, would be taken
/// for the header of a message whose body never ends.
fn greet(bytes: &[u8]) -> io::Result<()> {
    // libpq's limit for messages before the login.
    const LONGEST: u32 = 30_000;
    let length = bytes.get(1..5).and_then(|length| length.try_into().ok());
    let length = length.map(u32::from_be_bytes);
    let is_message = match bytes.first() {
        // AuthenticationRequest, NoticeResponse, NegotiateProtocolVersion.
        Some(b'R' | b'N' | b'v') => length.is_none_or(|length| (4..=LONGEST).contains(&length)),
        // ErrorResponse. A server that could not start a process sends one without a length.
        None | Some(b'E') => true,
        Some(_) => false,
    };
    match is_message {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, NotPostgres)),
    }
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, status: Arc<Status>) -> Self {
        Self {
            stream,
            frames: Frames::new(),
            status,
            socket: 0,
            closing: Closing::default(),
            greeted: false,
        }
    }

    /// Stores the state; the driver publishes it when its poll ends.
    fn note(&self) {
        self.status.set_wire(self.frames.bits() | self.socket);
    }

    fn note_read(&mut self) {
        let dirt = self.frames.take_dirt();
        if !dirt.is_none() {
            self.status.add_claims(self.frames.take_claims());
            self.status.add_dirt(dirt);
        }
        if let Some(code) = self.frames.take_error() {
            self.status.set_error(code);
        }
        if self.frames.process_id() != 0 {
            self.status.set_process_id(self.frames.process_id());
        }
    }

    /// Fails a conversation in which tokio-postgres would assign an answer to the wrong request.
    fn check(&self) -> io::Result<()> {
        match self.frames.fault() {
            Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault.as_str())),
            None => Ok(()),
        }
    }

    fn written(&mut self, accepted: Poll<io::Result<usize>>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &accepted {
            Poll::Ready(Ok(count)) => {
                self.socket &= !status::BLOCKED;
                let mut left = *count;
                for slice in bytes {
                    let part = &slice[..left.min(slice.len())];
                    self.frames.on_write(part);
                    left -= part.len();
                }
            }
            Poll::Ready(Err(_)) => self.frames.set_broken(),
            Poll::Pending => self.socket |= status::BLOCKED,
        }
        self.note();
        accepted
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        match &result {
            Poll::Pending => this.socket &= !status::UNDRAINED,
            Poll::Ready(Ok(())) => {
                this.socket |= status::UNDRAINED;
                let received = &buf.filled()[before..];
                if received.is_empty() && buf.remaining() > 0 {
                    this.frames.set_broken();
                }
                if !this.greeted {
                    greet(received)?;
                    this.greeted = !received.is_empty();
                }
                let spoilt = this.frames.on_read(received).is_err();
                this.note_read();
                if spoilt {
                    this.note();
                    this.check()?;
                }
            }
            Poll::Ready(Err(_)) => this.frames.set_broken(),
        }
        this.note();
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let accepted = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(accepted, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let accepted = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(accepted, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A TLS stream accepts bytes before the socket does. Bytes that it still holds show here.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        match &flushed {
            Poll::Ready(Ok(())) => this.socket &= !status::BLOCKED,
            Poll::Ready(Err(_)) => this.frames.set_broken(),
            Poll::Pending => this.socket |= status::BLOCKED,
        }
        this.note();
        flushed
    }

    /// Completes when the server process has exited. See [`Closing`].
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.frames.set_broken();
        this.note();
        this.closing.poll(&mut this.stream, cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Tells the driver that the stream needs no further encryption. The driver asks for it when TLS is required without
/// negotiation.
pub(super) struct AlreadyEncrypted;

impl AlreadyEncrypted {
    /// Sets the options with which the driver asks for this.
    pub(super) fn tell(config: &mut Config) {
        config
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
    }
}

impl<S: TlsStream + Unpin> TlsConnect<S> for AlreadyEncrypted {
    type Stream = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}

/// Closes a stream and waits until the server has closed it too.
///
/// PostgreSQL keeps a socket open until its process exits. So the end of the stream means that the process has gone and
/// its connection slot is free; on the connection of a cancel request, that the signal has been sent.
#[derive(Default)]
pub(super) struct Closing {
    half_closed: bool,
}

impl Closing {
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.half_closed {
            std::task::ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.half_closed = true;
        }
        let mut bytes = [0; 256];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => {}
                // A reset: the server had unread data, but its process has gone.
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
