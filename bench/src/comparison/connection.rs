//! A client's HTTP/1.1 connection. It costs as little CPU time as possible, because it shares the machine with the
//! service that it measures.
//!
//! Invariant: one request is in flight at a time, and its answer is read exactly to its last byte.

use std::{io, mem::MaybeUninit, sync::Arc};

use bytes::BytesMut;
use httparse::ParserConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::target::Target;

/// Initial size of the buffer: enough for the answer to a read of a key.
const ROOM: usize = 1024;
/// The most bytes of a body that are dropped in one step.
const DROPPED: usize = 64 * 1024;
const MOST_HEADERS: usize = 32;

/// A keep-alive connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What every request shows: see [`Target`].
    header: Arc<str>,
    /// The request with its header.
    output: Vec<u8>,
    input: BytesMut,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Whether the server closes the connection after this answer.
    pub(super) last: bool,
    /// The length of the head and that of the body, in bytes.
    length: usize,
    body: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub(super) async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            header: target.header.clone(),
            output: Vec::new(),
            input: BytesMut::with_capacity(ROOM),
        })
    }

    /// Sends a request and reads its answer; the body is dropped while it arrives.
    ///
    /// # Errors
    ///
    /// The connection ends before the answer does, or the answer has no `content-length`. The connection cannot be used
    /// afterwards.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection cannot be used any more.
    pub(super) async fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        let head = self.head(request).await?;
        let mut missing = (head.length + head.body).checked_sub(self.input.len());
        while let Some(length @ 1..) = missing {
            self.stream.readable().await?;
            missing = match drop_bytes(&self.stream, length) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(dropped) => length.checked_sub(dropped),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => missing,
                Err(error) => return Err(error),
            };
        }
        match missing {
            Some(_) => Ok(head),
            None => Err(invalid("more bytes than content-length says")),
        }
    }

    /// Sends a request and reads its answer with the body.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection cannot be used any more.
    pub(super) async fn ask_for_body(&mut self, request: &[u8]) -> io::Result<(Head, &[u8])> {
        let head = self.head(request).await?;
        let end = head.length + head.body;
        while self.input.len() < end {
            self.receive().await?;
        }
        if self.input.len() > end {
            return Err(invalid("more bytes than content-length says"));
        }
        Ok((head, &self.input[head.length..]))
    }

    async fn head(&mut self, request: &[u8]) -> io::Result<Head> {
        self.send(request).await?;
        self.input.clear();
        loop {
            self.receive().await?;
            if let Some(head) = Head::parse(&self.input)? {
                return Ok(head);
            }
        }
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        if self.header.is_empty() {
            return self.stream.write_all(request).await;
        }
        let line_end = request.windows(2).position(|end| end == b"\r\n");
        let (line, rest) = request.split_at(line_end.map_or(0, |end| end + 2));
        self.output.clear();
        for part in [line, self.header.as_bytes(), rest] {
            self.output.extend_from_slice(part);
        }
        self.stream.write_all(&self.output).await
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(ROOM);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Reads and drops at most `limit` bytes of those that have arrived.
fn drop_bytes(stream: &TcpStream, most: usize) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); DROPPED];
    stream.try_read_buf(&mut &mut room[..most.min(DROPPED)])
}

impl Head {
    /// `None` if the head is not complete yet.
    fn parse(input: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [MaybeUninit::uninit(); MOST_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parser = ParserConfig::default();
        let parsed = parser.parse_response_with_uninit_headers(&mut response, input, &mut headers);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(invalid(error)),
        };
        let status = response.code.ok_or_else(|| invalid("no status in the answer"))?;
        let (mut body, mut last) = (matches!(status, 204 | 304).then_some(0), false);
        for header in response.headers {
            if body.is_none() && header.name.eq_ignore_ascii_case("content-length") {
                let value = std::str::from_utf8(header.value).map_err(invalid)?;
                body = Some(value.trim().parse().map_err(invalid)?);
            } else if header.name.eq_ignore_ascii_case("connection") {
                last = header.value.eq_ignore_ascii_case(b"close");
            }
        }
        Ok(Some(Self {
            status,
            length,
            body: body.ok_or_else(|| invalid("an answer without content-length"))?,
            last,
        }))
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::net::TcpListener;

    use super::*;

    /// A client whose only request gets these bytes as the answer, a few at a time.
    async fn answered(bytes: &'static str) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            for part in bytes.as_bytes().chunks(7) {
                stream.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        Connection::open(&Target::bare(address)).await.unwrap()
    }

    #[tokio::test]
    async fn the_credentials_follow_the_request_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = Target::bare(listener.local_addr().unwrap());
        target.header = "authorization: Bearer x\r\n".into();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 256];
            let length = stream.read(&mut request).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let mut connection = Connection::open(&target).await.unwrap();
        connection.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let request = server.await.unwrap();
        assert_eq!(request, "GET / HTTP/1.1\r\nauthorization: Bearer x\r\nhost: x\r\n\r\n");
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let bytes = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nconnection: close\r\n\r\nhello world";
        let mut connection = answered(bytes).await;
        let (head, body) = connection.ask_for_body(b"x").await.unwrap();
        assert_eq!((head.status, head.last, body), (200, true, &b"hello world"[..]));
        let head = answered(bytes).await.ask(b"x").await.unwrap();
        assert_eq!((head.status, head.last), (200, true));
    }

    #[tokio::test]
    async fn an_answer_without_a_body_needs_no_length() {
        let mut connection = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(connection.ask(b"x").await.unwrap().status, 204);
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_is_an_error() {
        let mut connection = answered("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello").await;
        let error = connection.ask(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_is_an_error() {
        let mut connection = answered("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let error = connection.ask(b"x").await.unwrap_err();
        assert_eq!(error.to_string(), "an answer without content-length");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_where_it_should_is_an_error() {
        let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello world, all at once";
        let error = answered(bytes).await.ask(b"x").await.unwrap_err();
        assert_eq!(error.to_string(), "more bytes than content-length says");
    }
}
