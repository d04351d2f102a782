//! The answer to a client that speaks plain HTTP to a port of HTTPS.
//!
//! Invariant: it is sent only to a peer whose first byte begins no TLS record.

use std::io;

use tokio::io::AsyncWriteExt;

use crate::http::socket::Socket;

/// The first byte of a TLS handshake record (RFC 8446, section 5.1). No HTTP request begins with it.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Written by hand, because there is no request yet. It has the security headers of every response.
pub(super) const RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: application/problem+json\r\n\
content-length: 135\r\n\
cache-control: no-cache\r\n\
x-content-type-options: nosniff\r\n\
referrer-policy: no-referrer\r\n\
content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\
connection: close\r\n\
\r\n\
{\"type\":\"urn:cenote:problem:bad-request\",\"title\":\"Bad request\",\
\"status\":400,\"detail\":\"this port speaks HTTPS: use https:// in the URL\"}";

/// Whether the first byte of a connection begins a TLS handshake.
pub(super) fn begins_handshake(first: u8) -> bool {
    first == HANDSHAKE_RECORD
}

/// Answers, and closes the connection when the peer has.
pub(super) async fn refuse(mut socket: Socket) -> io::Result<()> {
    socket.write_all(RESPONSE).await?;
    socket.linger().await
}

#[cfg(test)]
mod tests {
    use crate::http::request_layer::SECURITY_HEADERS;

    #[test]
    fn it_has_the_security_headers_of_every_response() {
        let text = std::str::from_utf8(super::RESPONSE).unwrap();
        for (name, value) in SECURITY_HEADERS {
            assert!(text.contains(&format!("\r\n{name}: {value}\r\n")), "{name}");
        }
    }

    #[test]
    fn the_announced_length_is_the_length() {
        let text = std::str::from_utf8(super::RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
