//! One TLS handshake. Invariant: it has no bound of its own; the caller ends it.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use tokio::io::ReadBuf;
use tokio_rustls::server::TlsStream;

use super::reload::Tls;
use super::{HTTP2, certificate, plain_http};
use crate::http::socket::Socket;

/// A connection after its handshake.
pub(in crate::http) struct Encrypted {
    /// Boxed, so that plain connections stay small.
    pub(in crate::http) stream: Box<TlsStream<Socket>>,
    /// Whether both sides agreed on HTTP/2.
    pub(in crate::http) is_http2: bool,
    /// The subject of the peer's certificate.
    pub(in crate::http) subject: Option<Arc<str>>,
}

/// Performs the handshake. A peer that speaks plain HTTP is told so.
///
/// # Errors
///
/// The peer went away, or refused or was refused.
pub(in crate::http) async fn handshake(tls: &Tls, socket: Socket) -> io::Result<Encrypted> {
    if !plain_http::begins_handshake(first_byte(&socket).await?) {
        plain_http::refuse(socket).await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let stream = match tls.acceptor().accept(socket).into_fallible().await {
        Ok(stream) => stream,
        Err((error, socket)) => {
            // The alert that says why was sent. A request may have followed the peer's part of the handshake.
            socket.linger().await?;
            return Err(error);
        }
    };
    let (_, session) = stream.get_ref();
    let peer = session.peer_certificates().and_then(<[_]>::first);
    Ok(Encrypted {
        is_http2: session.alpn_protocol() == Some(HTTP2),
        subject: peer.and_then(|der| certificate::subject(der)).map(Arc::from),
        stream: Box::new(stream),
    })
}

/// Waits for the first byte, and leaves it in the socket.
async fn first_byte(socket: &Socket) -> io::Result<u8> {
    let mut byte = [0];
    let peeked = poll_fn(|cx| socket.tcp().poll_peek(cx, &mut ReadBuf::new(&mut byte))).await?;
    match peeked {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}
