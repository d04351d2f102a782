//! The answer to a connection too many. Invariant: it costs a bounded time, and a bounded number at once.

use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections whose request is waited for. Others are answered at once.
const AT_ONCE: usize = 64;

/// How long one of them may take, from its request to its end.
const BOUND: Duration = Duration::from_secs(1);

const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\n\
content-length: 142\r\n\
retry-after: 1\r\n\
connection: close\r\n\
\r\n\
{\"type\":\"urn:cenote:problem:too-many-connections\",\"title\":\"Too many connections\",\
\"status\":503,\"detail\":\"every connection is taken; try again\"}";

/// Answers `503` to connections there is no room for.
#[derive(Debug, Clone)]
pub(super) struct Refusals(Arc<Semaphore>);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Takes the connection and ends it, in a task of its own.
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            self.refuse_at_once(&stream);
            return;
        };
        tokio::spawn(async move {
            // A peer too slow to be told is closed without.
            let _ = tokio::time::timeout(BOUND, answer(stream)).await;
            drop(permit);
        });
    }

    /// Answers without waiting for anything. A request that has come is read first, because closing with bytes unread
    /// would reset the connection.
    pub(super) fn refuse_at_once(&self, stream: &TcpStream) {
        let stream = SockRef::from(stream);
        let mut request = [MaybeUninit::uninit(); 8192];
        // Whatever fails here is the peer's business: the connection is closed next.
        let _read = stream.recv(&mut request);
        let _written = stream.send(ANSWER);
        let _ended = stream.shutdown(Shutdown::Write);
    }
}

/// Waits for the request, so that the answer is not taken for noise, answers, and reads on until the peer
/// ends: closing with bytes unread would reset the connection under the answer.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.readable().await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    let mut scrap = [0_u8; 1024];
    while stream.read(&mut scrap).await? != 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_announced_length_is_the_length() {
        let text = std::str::from_utf8(super::ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
