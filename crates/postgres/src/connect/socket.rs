//! A TCP or Unix socket, encrypted or not. Invariant: what is read and written here is the plain PostgreSQL protocol,
//! so that it can be followed.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{
    Config,
    tls::{ChannelBinding, TlsStream},
};

#[cfg(feature = "tls")]
use crate::connect::handshake::Encrypted;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<Encrypted>),
}

impl Socket {
    /// Connects. It has no timeout; set one around it.
    pub(crate) async fn connect(endpoint: &Endpoint, config: &Config) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                set_options(&stream, config)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Returns another handle to the same socket, which is closed when both handles are.
    pub(crate) fn duplicate(&self) -> io::Result<socket2::Socket> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).try_clone(),
            Self::Unix(stream) => SockRef::from(stream).try_clone(),
            #[cfg(feature = "tls")]
            Self::Tls(encrypted) => SockRef::from(encrypted.stream.get_ref().0).try_clone(),
        }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Tcp(_) | Self::Unix(_))
    }
}

fn set_options(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(&limit) = config.get_tcp_user_timeout() {
        SockRef::from(stream).set_tcp_user_timeout(Some(limit))?;
    }
    Ok(())
}

/// Forwards a call to the stream inside.
macro_rules! inside {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            #[cfg(feature = "tls")]
            Self::Tls(encrypted) => {
                let $stream = &mut encrypted.stream;
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inside!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(encrypted) => encrypted.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl TlsStream for Socket {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(encrypted) => match &encrypted.end_point {
                Some(hash) => ChannelBinding::tls_server_end_point(hash.clone()),
                None => ChannelBinding::none(),
            },
            _ => ChannelBinding::none(),
        }
    }
}
