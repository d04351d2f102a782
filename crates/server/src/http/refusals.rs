//! The 503 for connections beyond the limit. Invariant: the number of them that are answered at a time is bounded, and so
//! is the time each takes.

use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Most refused connections whose request is awaited. Further ones are answered without waiting.
const MAX_AWAITED: usize = 64;

/// How long an awaited one may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Written by hand, because there is no request yet.
const RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\n\
content-length: 142\r\n\
retry-after: 1\r\n\
connection: close\r\n\
cache-control: no-cache\r\n\
x-content-type-options: nosniff\r\n\
referrer-policy: no-referrer\r\n\
content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\
\r\n\
{\"type\":\"urn:cenote:problem:too-many-connections\",\"title\":\"Too many connections\",\
\"status\":503,\"detail\":\"every connection is taken; try again\"}";

/// A fatal alert of TLS, `internal_error` (RFC 8446, section 6): without a handshake nothing else can be said.
const ALERT: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50];

/// Answers `503` on connections beyond the limit.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    awaited: Arc<Semaphore>,
    response: &'static [u8],
}

impl Refusals {
    pub(super) fn new(is_encrypted: bool) -> Self {
        Self {
            awaited: Arc::new(Semaphore::new(MAX_AWAITED)),
            response: if is_encrypted { ALERT } else { RESPONSE },
        }
    }

    /// Answers and closes the connection in a task.
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.awaited).try_acquire_owned() else {
            self.refuse_at_once(&stream);
            return;
        };
        let response = self.response;
        tokio::spawn(async move {
            // A peer that is too slow gets no response.
            let _ = tokio::time::timeout(TIMEOUT, respond(stream, response)).await;
            drop(permit);
        });
    }

    /// Answers without waiting. A request that has already arrived is read first, because closing with bytes unread would
    /// reset the connection.
    pub(super) fn refuse_at_once(&self, stream: &TcpStream) {
        let stream = SockRef::from(stream);
        let mut request = [MaybeUninit::uninit(); 8192];
        // Errors do not matter: the connection is closed next.
        let _read = stream.recv(&mut request);
        let _written = stream.send(self.response);
        let _ended = stream.shutdown(Shutdown::Write);
    }
}

/// Waits for the request, because clients reject a response that precedes it. Then answers, and reads until the peer
/// closes: closing with bytes unread would reset the connection before the response is read.
async fn respond(mut stream: TcpStream, response: &[u8]) -> std::io::Result<()> {
    stream.readable().await?;
    stream.write_all(response).await?;
    stream.shutdown().await?;
    let mut discarded = [0_u8; 1024];
    while stream.read(&mut discarded).await? != 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_announced_length_is_the_length() {
        let text = std::str::from_utf8(super::RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = format!("{head}\r\n");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
        for (name, value) in crate::http::request_layer::SECURITY_HEADERS {
            assert!(head.contains(&format!("\r\n{name}: {value}\r\n")), "{name}");
        }
    }
}
