//! Encrypts a connection with rustls. Invariant: nothing is sent unencrypted but the question whether the server
//! speaks TLS.

use std::{io, path::Path, sync::Arc};

use ring::digest::{self, Algorithm};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::{Config, config::SslNegotiation, tls::ChannelBinding};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_cert_signed_by_trust_anchor, verify_server_name,
        },
        crypto::{
            WebPkiSupportedAlgorithms, ring as provider, verify_tls12_signature,
            verify_tls13_signature,
        },
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName, UnixTime,
            pem::{self, PemObject},
        },
        server::ParsedCertificate,
    },
};

use crate::tls::{Roots, Tls, Verify};

/// An encrypted connection.
pub(crate) type Encrypted = TlsStream<TcpStream>;

/// The message that asks a server whether it speaks TLS: its length and a number that is no protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// What both sides call the protocol inside, so that a server of another kind on the same port is told apart.
const PROTOCOL: &[u8] = b"postgresql";

/// Why a connection was not encrypted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The server does not speak TLS, but waits for the start-up.
    #[error("the server does not offer TLS")]
    NotOffered(TcpStream),
    /// The two do not trust or understand each other.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
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
    /// Those of the operating system: too many to read them for every connection.
    system: Option<Arc<RootCertStore>>,
}

impl Encryption {
    /// Reads the files once, so that a missing one is noticed at the start.
    pub(crate) fn new(tls: &Tls, server: &Config) -> Result<Self, UnusableFile> {
        let system = match tls.roots {
            Some(Roots::System) => Some(Arc::new(system_roots()?)),
            _ => None,
        };
        let encryption = Self {
            tls: tls.clone(),
            direct: server.get_ssl_negotiation() == SslNegotiation::Direct,
            system,
        };
        encryption.config()?;
        Ok(encryption)
    }

    /// Asks the server for TLS and begins it. Takes from `name` what the certificate must be for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn encrypt(
        &self,
        mut stream: TcpStream,
        name: &str,
    ) -> Result<Encrypted, HandshakeError> {
        if !self.direct && !is_offered(&mut stream).await? {
            return Err(HandshakeError::NotOffered(stream));
        }
        let this = self.clone();
        // The files may lie on a disk that is slow.
        let config = tokio::task::spawn_blocking(move || this.config()).await;
        let config = config
            .map_err(io::Error::other)?
            .map_err(|unusable| HandshakeError::Refused(unusable.to_string()))?;
        let name = match ServerName::try_from(name.to_owned()) {
            Ok(name) => name,
            Err(_) if self.tls.verify == Verify::Host => {
                let problem = "no certificate can be for a host of this name";
                return Err(HandshakeError::Refused(problem.to_owned()));
            }
            // Nobody will look at it.
            Err(_) => ServerName::IpAddress(stream.peer_addr()?.ip().into()),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let encrypted = connector.connect(name, stream).await.map_err(refused)?;
        let (_, session) = encrypted.get_ref();
        if self.direct && session.alpn_protocol() != Some(PROTOCOL) {
            let problem = "the server did not agree to speak PostgreSQL";
            return Err(HandshakeError::Refused(problem.to_owned()));
        }
        Ok(encrypted)
    }

    fn config(&self) -> Result<ClientConfig, UnusableFile> {
        let provider = Arc::new(provider::default_provider());
        let verifier = Verifier {
            roots: match &self.tls.roots {
                _ if self.tls.verify == Verify::Nothing => None,
                Some(Roots::File(file)) => Some(Arc::new(roots(file)?)),
                Some(Roots::System) => self.system.clone(),
                None => None,
            },
            verify: self.tls.verify,
            algorithms: provider.signature_verification_algorithms,
        };
        let unusable = |option| {
            move |error: Error| UnusableFile {
                option,
                problem: error.to_string(),
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable("TLS"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.tls.certificate {
            None => builder.with_no_client_auth(),
            Some(ours) => {
                let chain = certificates("sslcert", &ours.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&ours.key)
                    .map_err(|error| unreadable("sslkey", &ours.key, error))?;
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
    // One byte and no more: what comes behind it unencrypted is not the server's.
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(HandshakeError::Refused(
            "the server's answer makes no sense".to_owned(),
        )),
    }
}

/// rustls reports what is wrong with the other side inside an I/O error.
fn refused(error: io::Error) -> HandshakeError {
    match error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>())
    {
        Some(cause) => HandshakeError::Refused(cause.to_string()),
        None => HandshakeError::Io(error),
    }
}

fn certificates(
    option: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
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

fn roots(file: &Path) -> Result<RootCertStore, UnusableFile> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("sslrootcert", file)? {
        roots.add(certificate).map_err(|error| UnusableFile {
            option: "sslrootcert",
            problem: format!("{}: {error}", file.display()),
        })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, UnusableFile> {
    let mut roots = RootCertStore::empty();
    let (_usable, _not) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(UnusableFile {
            option: "sslrootcert=system",
            problem: "this system trusts no certificate authorities".to_owned(),
        }),
        false => Ok(roots),
    }
}

/// Checks of a server's certificate what is asked for, and always that the server has its key.
#[derive(Debug)]
struct Verifier {
    verify: Verify,
    roots: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verify != Verify::Nothing {
            let roots = self
                .roots
                .as_ref()
                .ok_or_else(|| Error::General("no authorities are known".to_owned()))?;
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
            if self.verify == Verify::Host {
                verify_server_name(&certificate, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What ties a login to this very connection: `tls-server-end-point` of RFC 5929, the hash of the server's
/// certificate.
pub(crate) fn channel_binding(stream: &Encrypted) -> ChannelBinding {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    match certificate.and_then(|certificate| end_point(certificate)) {
        Some(hash) => ChannelBinding::tls_server_end_point(hash),
        None => ChannelBinding::none(),
    }
}

fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_of_signature(signature_algorithm(certificate)?)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The hash that goes with a signature algorithm, given by its object identifier. MD5 and SHA-1 are replaced by
/// SHA-256, as the RFC says; for those without a hash of their own, such as Ed25519, it says nothing.
fn hash_of_signature(identifier: &[u8]) -> Option<&'static Algorithm> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    match (identifier.strip_prefix(RSA), identifier.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(&digest::SHA256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(&digest::SHA384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(&digest::SHA512),
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (certificate, _) = element(SEQUENCE, certificate)?;
    let (_, after) = element(SEQUENCE, certificate)?;
    let (algorithm, _) = element(SEQUENCE, after)?;
    element(OBJECT_IDENTIFIER, algorithm).map(|(identifier, _)| identifier)
}

/// The content of a DER element with this tag, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, bytes) = bytes.split_first()?;
    let (&length, bytes) = bytes.split_first()?;
    let (length, bytes) = match length {
        0..0x80 => (usize::from(length), bytes),
        _ => {
            let (length, bytes) = bytes.split_at_checked(usize::from(length & 0x7f))?;
            let length = length.iter().try_fold(0_usize, |sum, byte| {
                sum.checked_mul(256)?.checked_add(usize::from(*byte))
            })?;
            (length, bytes)
        }
    };
    (found == tag).then_some(())?;
    bytes.split_at_checked(length)
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
