//! A plain HTTP/1.1 client.
//!
//! Invariant: the path is sent as it was given, not normalised.

use std::{collections::HashMap, io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::SOON;

/// What no answer may contain: statements, addresses, credentials, source files.
const SECRETS: [&str; 12] = [
    "select ",
    "insert ",
    "update ",
    "delete from",
    " kv",
    "127.0.0.1",
    "postgres",
    "password",
    "panicked",
    ".rs:",
    "cenote_",
    "constraint",
];

/// One connection, kept alive between requests.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By name in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::connect(address).await?,
            buffer: Vec::new(),
        })
    }

    /// From now on dropping the connection resets it, of which the kernel tells the service at once.
    pub(crate) fn reset_on_drop(&self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Sends one request, with the headers that frame it, and reads the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> io::Result<Answer> {
        let body = body.as_ref();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        let exchange = async {
            self.stream.write_all(&request).await?;
            self.answer(method != "HEAD").await
        };
        timeout(SOON, exchange).await?
    }

    /// Like [`ask`](Self::ask), with a JSON body.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let json = [("content-type", "application/json")];
        self.ask("POST", path, &json, body.to_string()).await
    }

    /// Sends one request, given in full, and reads until the service closes the connection.
    pub(crate) async fn exchange_to_the_end(mut self, request: &str) -> Vec<u8> {
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.read_to_end(&mut self.buffer).await
        };
        timeout(SOON, exchange).await.unwrap().unwrap();
        self.buffer
    }

    async fn answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let end = loop {
            match self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more().await?,
            }
        };
        let rest = self.buffer.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = match headers.get("content-length") {
            Some(length) if has_body => length.parse().unwrap(),
            _ => 0,
        };
        while self.buffer.len() < length {
            self.more().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(Answer {
            status,
            headers,
            body: std::mem::replace(&mut self.buffer, rest),
        })
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The body, checked to be a complete problem of this status and type that reveals nothing internal.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        let text = self.text();
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["type"], format!("urn:cenote:problem:{kind}"), "{text}");
        assert_eq!(problem["status"], status, "{text}");
        for name in ["title", "detail"] {
            assert!(!problem[name].as_str().unwrap().is_empty(), "{text}");
        }
        if status == 503 {
            let seconds: u32 = self.headers["retry-after"].parse().unwrap();
            assert!(seconds >= 1);
        }
        let lower = text.to_lowercase();
        for secret in SECRETS {
            assert!(!lower.contains(secret), "{secret:?} in {text}");
        }
        problem
    }

    /// The fields that a 422 complains about.
    #[track_caller]
    pub(crate) fn wrong_fields(&self) -> Vec<String> {
        let problem = self.problem(422, "validation");
        let errors = problem["errors"].as_array().unwrap().iter();
        errors
            .map(|error| {
                assert!(!error["detail"].as_str().unwrap().is_empty());
                error["field"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

/// Resolves a reference of an answer (RFC 3986, section 5.2), as far as the service makes references.
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    let path = base.split('?').next().unwrap();
    if reference.starts_with('?') {
        return format!("{path}{reference}");
    }
    if reference.starts_with('/') {
        return reference.to_owned();
    }
    let mut segments: Vec<_> = path.split('/').collect();
    segments.pop();
    let (relative, query) = match reference.split_once('?') {
        Some((relative, query)) => (relative, format!("?{query}")),
        None => (reference, String::new()),
    };
    for segment in relative.split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("{}{query}", segments.join("/"))
}
