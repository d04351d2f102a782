//! Fetches one small document over HTTP/1.1. Invariant: one request on its own connection, without redirects, and never
//! more bytes than the caller allows. The caller bounds the time.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use axum::http::{
    Request, StatusCode,
    header::{ACCEPT, HOST, USER_AGENT},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{client::conn::http1, rt};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
        version::{TLS12, TLS13},
    },
};

use super::url::JwksUrl;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the name in the URL cannot be in a certificate: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("TLS cannot be set up: {0}")]
    TlsConfig(tokio_rustls::rustls::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the request cannot be built: {0}")]
    Request(#[from] axum::http::Error),
    #[error("the answer is {0}, not 200")]
    Status(StatusCode),
    #[error("the answer ended early, or is longer than {0} bytes")]
    Body(usize),
}

/// Fetches documents.
#[derive(Default)]
pub(super) struct Fetcher {
    /// Made when it is first needed: reading the system's certificates takes milliseconds.
    tls: OnceLock<TlsConnector>,
}

impl Fetcher {
    /// The body of a response with status 200.
    pub(super) async fn get(&self, url: &JwksUrl, most_bytes: usize) -> Result<Vec<u8>, FetchError> {
        let address = (url.host.as_str(), url.port);
        let stream = TcpStream::connect(address).await.map_err(FetchError::Connect)?;
        if !url.is_tls {
            return request(stream, url, most_bytes).await;
        }
        let name = ServerName::try_from(url.host.clone())?;
        let stream = self.tls()?.connect(name, stream).await.map_err(FetchError::Tls)?;
        request(stream, url, most_bytes).await
    }

    fn tls(&self) -> Result<TlsConnector, FetchError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let mut roots = RootCertStore::empty();
        // Also those that SSL_CERT_FILE and SSL_CERT_DIR name.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS12, &TLS13])
            .map_err(FetchError::TlsConfig)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(self.tls.get_or_init(|| tls).clone())
    }
}

async fn request<S>(stream: S, url: &JwksUrl, most_bytes: usize) -> Result<Vec<u8>, FetchError>
where
    TokioIo<S>: rt::Read + rt::Write + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&url.path)
        .header(HOST, &url.authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("cenote/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), most_bytes).collect().await;
        let body = body.map_err(|_| FetchError::Body(most_bytes))?;
        Ok(body.to_bytes().to_vec())
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
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig,
            pki_types::{CertificateDer, PrivateKeyDer},
        },
    };

    use super::*;

    /// Serves one document over TLS; returns its URL and the certificate.
    async fn serve() -> (JwksUrl, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await {
                    let _read = stream.read(&mut [0; 1024]).await;
                    let _sent = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                        .await;
                }
            }
        });
        (format!("https://localhost:{port}/jwks").parse().unwrap(), certificate)
    }

    #[tokio::test]
    async fn a_server_needs_a_certificate_that_is_trusted() {
        let (url, certificate) = serve().await;
        let refused = Fetcher::default().get(&url, 100).await.unwrap_err();
        assert!(matches!(refused, FetchError::Tls(_)), "{refused}");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let fetcher = Fetcher {
            tls: OnceLock::from(TlsConnector::from(Arc::new(trusting))),
        };
        assert_eq!(fetcher.get(&url, 100).await.unwrap(), b"{}");
        assert!(matches!(fetcher.get(&url, 1).await, Err(FetchError::Body(1))));
    }
}
