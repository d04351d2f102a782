//! A server with a certificate in files, and clients that trust its authority.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{Request, Response};
use bytes::Bytes;
use cenote::http::{HttpConfig, RequestBody, ResponseBody, Service, Tls, TlsConfig, TlsError, TlsVersion};
use cenote_testing::Authority;
use http_body_util::{Either, Full};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::{Client, Server, serve_with};

/// The host that the certificates are for.
pub(crate) const HOST: &str = "cenote.test";

/// The files of a server, in a directory of their own.
pub(crate) struct Files {
    directory: TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    /// A certificate for [`HOST`] and its key.
    pub(crate) fn new() -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new("the authority of the server"),
        };
        files.renew();
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Replaces certificate and key, and returns the certificate.
    pub(crate) fn renew(&self) -> String {
        let (certificate, key) = self.authority.issue(HOST);
        self.write("certificate.pem", &certificate);
        self.write("key.pem", &key);
        certificate
    }

    pub(crate) fn config(&self) -> TlsConfig {
        TlsConfig {
            certificate: self.path("certificate.pem"),
            key: self.path("key.pem"),
            clients: None,
            min_version: TlsVersion::Tls12,
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::load(self.config()).unwrap()
    }

    /// Reads the files again, as a reload of the settings does.
    pub(crate) async fn reload(&self, tls: &Tls) -> Result<bool, TlsError> {
        Ok(tls.prepare(self.config()).await?.adopt())
    }

    /// A client that trusts the authority of the server.
    pub(crate) fn client(&self) -> TlsClient {
        TlsClient::new(&self.authority.pem())
    }
}

/// Answers with the subject of the peer's certificate.
#[derive(Clone)]
pub(crate) struct Who;

impl Service for Who {
    async fn call(&self, request: Request<RequestBody>) -> Response<ResponseBody> {
        let subject = request.body().peer().subject.as_deref();
        let subject = subject.unwrap_or("nobody").to_owned();
        Response::new(Either::Left(Full::new(Bytes::from(subject))))
    }
}

/// Serves HTTPS.
pub(crate) fn start<S: Service + Clone>(tls: Tls, service: S, config: HttpConfig) -> Server {
    serve_with(
        |listeners| listeners.with_tls(Some(tls)),
        vec![Handle::current()],
        service,
        config,
    )
}

/// How a client connects.
#[derive(Clone)]
pub(crate) struct TlsClient {
    authority: Vec<CertificateDer<'static>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    identity: Option<(String, String)>,
}

impl TlsClient {
    pub(crate) fn new(authority: &str) -> Self {
        Self {
            authority: vec![CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()],
            versions: vec![&TLS13, &TLS12],
            protocols: Vec::new(),
            identity: None,
        }
    }

    pub(crate) fn version_1_2(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    pub(crate) fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        self
    }

    /// Shows this certificate with its key, both PEM.
    pub(crate) fn identity(mut self, identity: (String, String)) -> Self {
        self.identity = Some(identity);
        self
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for authority in &self.authority {
            roots.add(authority.clone()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }

    /// What several connections share, such as sessions to resume.
    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.config()))
    }

    /// Performs a handshake.
    pub(crate) async fn try_connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        Self::try_connect_by(&self.connector(), address).await
    }

    pub(crate) async fn connect(&self, server: &Server) -> Client<TlsStream<TcpStream>> {
        Self::connect_by(&self.connector(), server).await
    }

    pub(crate) async fn try_connect_by(
        connector: &TlsConnector,
        address: SocketAddr,
    ) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(address).await?;
        connector.connect(ServerName::try_from(HOST).unwrap(), socket).await
    }

    pub(crate) async fn connect_by(connector: &TlsConnector, server: &Server) -> Client<TlsStream<TcpStream>> {
        Client::over(Self::try_connect_by(connector, server.address).await.unwrap())
    }
}

/// The certificate that the server has shown.
pub(crate) fn shown(client: &Client<TlsStream<TcpStream>>) -> Vec<u8> {
    let (_, session) = client.stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// The first certificate of a text.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// Half of a file.
pub(crate) fn half(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text[..text.len() / 2].to_owned()
}

/// A body without bytes.
pub(crate) type Nothing = http_body_util::Empty<Bytes>;
