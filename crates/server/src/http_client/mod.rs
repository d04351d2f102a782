//! Asks other HTTP services: one request on its own connection, over HTTP/1.1, with or without TLS.
//!
//! Invariant: it follows no redirect, keeps no more bytes than the caller allows, and leaves no task or connection behind
//! its future. The caller bounds the time of a request, [`Client::stream`] the silence of a stream.
//!
//! | To find | Look in |
//! |---|---|
//! | which URLs are understood | `url` |
//! | who is trusted, and the certificate of this side | `tls` |
//! | what can fail, and whether the request was sent | `error` |

mod error;
mod tls;
mod url;

use std::{sync::OnceLock, time::Duration};

use axum::http::{
    Request, Response, StatusCode,
    header::{HOST, HeaderValue, USER_AGENT},
    uri::PathAndQuery,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1, rt};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

pub(crate) use self::{
    error::ClientError,
    tls::{TlsFiles, TlsFilesError},
    url::HttpUrl,
};

/// Longest body that is read of a response that is no success.
const MOST_OF_A_REFUSAL: usize = 64 * 1024;

/// Sends requests.
#[derive(Default)]
pub(crate) struct Client {
    /// Made when it is first needed, if no files were named: reading the system's certificates takes milliseconds.
    tls: OnceLock<TlsConnector>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Client {
    /// A client that trusts, and shows, what the files hold. It blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be used.
    pub(crate) fn with_tls(files: &TlsFiles) -> Result<Self, TlsFilesError> {
        Ok(Self {
            tls: OnceLock::from(files.connector()?),
        })
    }

    /// Sends a request to the server of the URL and reads the response. The request's own URI is ignored.
    ///
    /// # Errors
    ///
    /// There is no whole response of at most `most_bytes`. [`ClientError::was_sent`] says whether the server may have acted
    /// on the request.
    ///
    /// # Cancel safety
    ///
    /// A dropped future closes the connection; the server may have acted on the request.
    pub(crate) async fn send(
        &self,
        url: &HttpUrl,
        request: Request<Full<Bytes>>,
        most_bytes: usize,
    ) -> Result<Answer, ClientError> {
        let read = async move |response| whole(response, most_bytes).await;
        self.exchange(url, request, read).await
    }

    /// Sends a request to the server of the URL, and passes each part of a successful response to `take` when it arrives.
    /// Returns when the response has ended, with its body only if it was no success.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and nothing arrived for the time of `silence`.
    ///
    /// # Cancel safety
    ///
    /// A dropped future closes the connection.
    pub(crate) async fn stream(
        &self,
        url: &HttpUrl,
        request: Request<Full<Bytes>>,
        silence: Duration,
        mut take: impl FnMut(Bytes),
    ) -> Result<Answer, ClientError> {
        let silent = |_| ClientError::Silent(silence.as_secs());
        let read = async |response: Response<Incoming>| {
            let status = response.status();
            if status != StatusCode::OK {
                return timeout(silence, whole(response, MOST_OF_A_REFUSAL))
                    .await
                    .map_err(silent)?;
            }
            let mut body = response.into_body();
            while let Some(frame) = timeout(silence, body.frame()).await.map_err(silent)? {
                if let Ok(part) = frame?.into_data() {
                    take(part);
                }
            }
            let body = Bytes::new();
            Ok(Answer { status, body })
        };
        self.exchange(url, request, read).await
    }

    async fn exchange(
        &self,
        url: &HttpUrl,
        request: Request<Full<Bytes>>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<Answer, ClientError>,
    ) -> Result<Answer, ClientError> {
        let request = addressed(url, request)?;
        let address = (url.host(), url.port());
        let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
        if !url.is_tls() {
            return exchange(stream, request, read).await;
        }
        let name = ServerName::try_from(url.tls_name().to_owned())?;
        let stream = self.tls()?.connect(name, stream).await.map_err(ClientError::Tls)?;
        exchange(stream, request, read).await
    }

    fn tls(&self) -> Result<TlsConnector, ClientError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let tls = tls::of_system().map_err(ClientError::TlsConfig)?;
        Ok(self.tls.get_or_init(|| tls).clone())
    }
}

/// The request with the URL's path and host.
fn addressed(url: &HttpUrl, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, ClientError> {
    let path: PathAndQuery = url.path().parse().map_err(axum::http::Error::from)?;
    *request.uri_mut() = path.into();
    let host = HeaderValue::from_str(url.authority()).map_err(axum::http::Error::from)?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    let agent = concat!("cenote/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    Ok(request)
}

/// Reads a response of at most this many bytes.
async fn whole(response: Response<Incoming>, most_bytes: usize) -> Result<Answer, ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), most_bytes).collect().await;
    let body = body.map_err(|_| ClientError::Body(most_bytes))?.to_bytes();
    Ok(Answer { status, body })
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<Answer, ClientError>,
) -> Result<Answer, ClientError>
where
    TokioIo<S>: rt::Read + rt::Write + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        read(response).await
    };
    // The connection is polled here, so that it ends with this future. If it fails, so does the exchange, unless that has
    // all it needs: many servers end TLS without saying so.
    let driven = async {
        let _ended = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        done = exchange => done,
        failed = driven => failed,
    }
}

#[cfg(test)]
mod tests;
