//! A client's HTTP/1.1 connection, as cheap as it can be: it shares the machine with what it measures.
//!
//! Invariant: one request is under way at a time, and its answer is read to its last byte and not beyond.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Room for an answer to a read of a key; the buffer grows if there is more.
const ROOM: usize = 1024;
const MOST_HEADERS: usize = 32;

/// A keep-alive connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: BytesMut,
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// Its status code.
    pub(super) status: u16,
    /// Its body.
    pub(super) body: &'a [u8],
    /// Whether the server ends the connection now.
    pub(super) last: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let input = BytesMut::with_capacity(ROOM);
        Ok(Self { stream, input })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// The connection ends before the answer does, or the answer is none that this client understands: it needs a
    /// `content-length`. The connection is of no use afterwards.
    ///
    /// # Cancel safety
    ///
    /// After a drop the connection is of no use.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.input.clear();
        let head = loop {
            self.receive().await?;
            if let Some(head) = Head::parse(&self.input)? {
                break head;
            }
        };
        let end = head.length + head.body;
        while self.input.len() < end {
            self.receive().await?;
        }
        if self.input.len() > end {
            return Err(invalid("more bytes than content-length says"));
        }
        Ok(Answer {
            status: head.status,
            body: &self.input[head.length..],
            last: head.last,
        })
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(ROOM);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection closed",
            )),
            _ => Ok(()),
        }
    }
}

struct Head {
    status: u16,
    /// Its own length and that of the body.
    length: usize,
    body: usize,
    last: bool,
}

impl Head {
    /// `None` if it is not all there yet.
    fn parse(input: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(invalid(error)),
        };
        let status = response
            .code
            .ok_or_else(|| invalid("no status in the answer"))?;
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

    /// A client whose one request is answered with these bytes, a few at a time.
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
        Connection::open(address).await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let bytes = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nconnection: close\r\n\r\nhello world";
        let mut connection = answered(bytes).await;
        let answer = connection.exchange(b"x").await.unwrap();
        let expected = Answer {
            status: 200,
            body: b"hello world",
            last: true,
        };
        assert_eq!(answer, expected);
    }

    #[tokio::test]
    async fn an_answer_without_a_body_needs_no_length() {
        let mut connection = answered("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(connection.exchange(b"x").await.unwrap().status, 204);
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_is_an_error() {
        let mut connection = answered("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello").await;
        let error = connection.exchange(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_is_an_error() {
        let mut connection =
            answered("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let error = connection.exchange(b"x").await.unwrap_err();
        assert_eq!(error.to_string(), "an answer without content-length");
    }
}
