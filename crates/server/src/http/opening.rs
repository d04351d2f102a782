//! What precedes HTTP on a connection: the header of a proxy, then the TLS handshake, or the first bytes, which tell the
//! version.
//!
//! Invariant: each step has a deadline in the connection's [`Activity`], so the one timer of the connection bounds it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::client_address::TrustedProxies;
use super::peer::Peer;
use super::proxy_protocol::{Source, read_header};
use super::socket::Socket;
use super::stream::Transport;
use super::tls::{Tls, handshake};

/// Longest time for the header of a proxy. Proxies send it before anything else, in one piece.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes that open an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer must send before its first request.
#[derive(Debug, Clone, Default)]
pub(super) struct Opening {
    /// The proxies that send a PROXY protocol header. Other peers send none.
    pub(super) proxies: TrustedProxies,
    pub(super) tls: Option<Tls>,
}

/// A connection that is ready for its first request.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) version: Version,
    pub(super) peer: Peer,
}

/// The protocol version that the first bytes of a connection allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    /// The bytes are the beginning of the HTTP/2 preface, or all of it.
    Unclear,
}

impl Opening {
    /// Performs every step. `None` if the peer has gone or cannot be served; only the peer can cause that.
    pub(super) async fn perform(&self, mut socket: Socket, mut peer: Peer) -> Option<Opened> {
        if self.proxies.contains(peer.address) {
            socket.activity().note_opening(HEADER_TIMEOUT);
            // Boxed, as below, so that other connections stay small.
            match Box::pin(read_header(&mut socket)).await {
                Ok(Source::Client(address)) => peer.address = address,
                Ok(Source::Proxy) => {}
                Err(error) => return failed(&error, &peer),
            }
            socket.activity().note_open();
        }
        match &self.tls {
            None => plain(socket, peer).await,
            Some(tls) => encrypted(tls, socket, peer).await,
        }
    }
}

async fn plain(socket: Socket, peer: Peer) -> Option<Opened> {
    let version = poll_fn(|cx| poll_first_bytes(socket.tcp(), cx)).await?;
    Some(Opened {
        transport: Transport::Plain(socket),
        version,
        peer,
    })
}

async fn encrypted(tls: &Tls, socket: Socket, mut peer: Peer) -> Option<Opened> {
    let activity = Arc::clone(socket.activity());
    activity.note_opening(HANDSHAKE_TIMEOUT);
    let encrypted = match Box::pin(handshake(tls, socket)).await {
        Ok(encrypted) => encrypted,
        Err(error) => return failed(&error, &peer),
    };
    activity.note_open();
    peer.subject = encrypted.subject;
    let version = match encrypted.is_http2 {
        // hyper reads the preface.
        true => Version::Unclear,
        false => Version::Http1,
    };
    Some(Opened {
        transport: Transport::Tls(encrypted.stream),
        version,
        peer,
    })
}

/// Logs at `debug`, because anybody can cause it.
fn failed(error: &io::Error, peer: &Peer) -> Option<Opened> {
    tracing::debug!(peer = %peer.address, %error, "a connection ended before its first request");
    None
}

/// Peeks at the first bytes, and leaves them in the socket for hyper. `None` if the peer closed before the first byte.
fn poll_first_bytes(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<Option<Version>> {
    let mut bytes = [0; PREFACE.len()];
    let mut bytes = ReadBuf::new(&mut bytes);
    Poll::Ready(match ready!(stream.poll_peek(cx, &mut bytes)) {
        Ok(0) | Err(_) => None,
        Ok(_) if PREFACE.starts_with(bytes.filled()) => Some(Version::Unclear),
        Ok(_) => Some(Version::Http1),
    })
}
