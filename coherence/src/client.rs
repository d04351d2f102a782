//! A client's connection to an instance: HTTP/1.1 with keep-alive. Invariant: after a request that the client gave up,
//! its connection is not used again.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle};

use crate::Result;

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async {
            let _ = connection.await; // the sender of the next request gets the error
        });
        Ok(Self {
            sender,
            driver: driver.abort_handle(),
        })
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request, with a JSON body unless it is empty, and reads the whole answer.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "cenote")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// Whether it came from a cache.
    pub(crate) fn is_hit(&self) -> bool {
        let status = self.headers.get("cache-status");
        status.is_some_and(|status| status.as_bytes().windows(5).any(|part| part == b"; hit"))
    }

    /// The version in the entity tag.
    pub(crate) fn version(&self) -> Option<i64> {
        let tag = self.headers.get(header::ETAG)?.to_str().ok()?;
        tag.trim_matches('"').parse().ok()
    }

    /// The name of the problem: its type without `urn:cenote:problem:`.
    pub(crate) fn problem(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Problem {
            r#type: String,
        }
        let problem: Problem = serde_json::from_slice(&self.body).ok()?;
        let slug = problem.r#type.strip_prefix("urn:cenote:problem:")?;
        Some(slug.to_owned())
    }
}
