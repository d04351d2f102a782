//! Encrypts a connection with rustls. Invariant: nothing is sent unencrypted, except the question whether the server
//! offers TLS.

use std::{io, path::Path, sync::Arc};

use ring::digest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::{Config, config::SslNegotiation};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ClientConnection, Error, RootCertStore,
        crypto::ring as provider,
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName,
            pem::{self, PemObject},
        },
    },
};

use crate::{
    connect::certificate::Certificate,
    connect::tls::{Roots, Tls, Verify},
    connect::verifier::{Authorities, Verifier, explain},
};

/// An encrypted connection.
pub(crate) struct Encrypted {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The data for channel binding, if the certificate has a hash for it and the server proved that it has the key.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// The SSLRequest message: its length, and a number that is not a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The ALPN name of the protocol. By it another kind of server on the same port is recognized.
const PROTOCOL: &[u8] = b"postgresql";

/// Why a connection was not encrypted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The server does not offer TLS, and waits for the startup packet.
    #[error("the server does not offer TLS")]
    NotOffered(TcpStream),
    /// The answer is not PostgreSQL's.
    #[error("the server is not PostgreSQL")]
    NotPostgres,
    /// The client refuses the server, or the server the client.
    #[error("{0}")]
    Refused(String),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {problem}")]
pub(crate) struct UnusableFile {
    option: &'static str,
    problem: String,
}

/// Encrypts connections as configured.
#[derive(Clone, Debug)]
pub(crate) struct Encryption {
    tls: Tls,
    direct: bool,
    /// The authorities of the operating system. Read once, because there are too many to read them for each connection.
    system: Option<Arc<Authorities>>,
}

impl Encryption {
    /// Reads the files once, so that a missing one is reported when the pool is created.
    pub(crate) fn new(tls: &Tls, server: &Config) -> Result<Self, UnusableFile> {
        let system = match tls.roots {
            Some(Roots::System) => Some(Arc::new(system_authorities()?)),
            _ => None,
        };
        let encryption = Self {
            tls: tls.clone(),
            direct: server.get_ssl_negotiation() == SslNegotiation::Direct,
            system,
        };
        encryption.config(&encryption.verifier()?)?;
        Ok(encryption)
    }

    /// Asks the server for TLS and performs the handshake. `name` is the host that the certificate must be for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn encrypt(&self, mut stream: TcpStream, name: &str) -> Result<Encrypted, HandshakeError> {
        if !self.direct && !is_offered(&mut stream).await? {
            return Err(HandshakeError::NotOffered(stream));
        }
        let this = self.clone();
        // Not on the runtime: the disk may be slow.
        let configure = move || {
            let verifier = this.verifier()?;
            Ok((this.config(&verifier)?, verifier))
        };
        let configured = tokio::task::spawn_blocking(configure).await;
        let (config, verifier) = configured
            .map_err(io::Error::other)?
            .map_err(|unusable: UnusableFile| HandshakeError::Refused(unusable.to_string()))?;
        let name = match ServerName::try_from(name.to_owned()) {
            Ok(name) => name,
            Err(_) if self.tls.verify == Verify::Host => {
                let problem = "no certificate can be for a host of this name";
                return Err(HandshakeError::Refused(problem.to_owned()));
            }
            // The name is not checked; rustls wants some name.
            Err(_) => ServerName::IpAddress(stream.peer_addr()?.ip().into()),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.map_err(refused)?;
        let (_, session) = stream.get_ref();
        if self.direct && session.alpn_protocol() != Some(PROTOCOL) {
            let problem = "the server did not agree to speak PostgreSQL";
            return Err(HandshakeError::Refused(problem.to_owned()));
        }
        let end_point = verifier.key_was_proven().then(|| end_point(session)).flatten();
        Ok(Encrypted { stream, end_point })
    }

    fn verifier(&self) -> Result<Arc<Verifier>, UnusableFile> {
        let authorities = match &self.tls.roots {
            _ if self.tls.verify == Verify::Nothing => None,
            Some(Roots::File(file)) => Some(Arc::new(authorities(file)?)),
            Some(Roots::System) => self.system.clone(),
            None => None,
        };
        let algorithms = provider::default_provider().signature_verification_algorithms;
        Ok(Arc::new(Verifier::new(self.tls.verify, authorities, algorithms)))
    }

    fn config(&self, verifier: &Arc<Verifier>) -> Result<ClientConfig, UnusableFile> {
        let unusable = |option| {
            move |error: Error| UnusableFile {
                option,
                problem: error.to_string(),
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable("TLS"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.tls.certificate {
            None => builder.with_no_client_auth(),
            Some(ours) => {
                let chain = certificates("sslcert", &ours.certificate)?;
                let key =
                    PrivateKeyDer::from_pem_file(&ours.key).map_err(|error| unreadable("sslkey", &ours.key, error))?;
                let builder = builder.with_client_auth_cert(chain, key);
                builder.map_err(unusable("sslcert and sslkey"))?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }
}

async fn is_offered(stream: &mut TcpStream) -> Result<bool, HandshakeError> {
    stream.write_all(&SSL_REQUEST).await?;
    // Read only one byte: bytes after it would be unencrypted, and so may come from an attacker (CVE-2021-23222).
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // The server could not start a process for this connection.
        b'E' => Err(HandshakeError::Io(io::Error::other(
            "the server answered with an error",
        ))),
        _ => Err(HandshakeError::NotPostgres),
    }
}

/// rustls wraps its own errors in an I/O error.
fn refused(error: io::Error) -> HandshakeError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) => HandshakeError::Refused(explain(cause)),
        None => HandshakeError::Io(error),
    }
}

fn certificates(option: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let unreadable = |error| unreadable(option, file, error);
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    match all.is_empty() {
        true => Err(unreadable(pem::Error::NoItemsFound)),
        false => Ok(all),
    }
}

fn unreadable(option: &'static str, file: &Path, error: pem::Error) -> UnusableFile {
    let problem = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "holds none in PEM form".to_owned(),
        _ => "is not PEM".to_owned(),
    };
    UnusableFile {
        option,
        problem: format!("{}: {problem}", file.display()),
    }
}

fn authorities(file: &Path) -> Result<Authorities, UnusableFile> {
    let certificates = certificates("sslrootcert", file)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| UnusableFile {
            option: "sslrootcert",
            problem: format!("{}: {error}", file.display()),
        })?;
    }
    Ok(Authorities { store, certificates })
}

fn system_authorities() -> Result<Authorities, UnusableFile> {
    let certificates = rustls_native_certs::load_native_certs().certs;
    let mut store = RootCertStore::empty();
    let (_usable, _not) = store.add_parsable_certificates(certificates.iter().cloned());
    match store.is_empty() {
        true => Err(UnusableFile {
            option: "sslrootcert=system",
            problem: "this system trusts no certificate authorities".to_owned(),
        }),
        false => Ok(Authorities { store, certificates }),
    }
}

/// Returns the channel binding data `tls-server-end-point` of RFC 5929: the hash of the server's certificate.
fn end_point(session: &ClientConnection) -> Option<Vec<u8>> {
    let certificate = session.peer_certificates().and_then(<[_]>::first)?;
    let algorithm = Certificate::read(certificate)?.hash()?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
