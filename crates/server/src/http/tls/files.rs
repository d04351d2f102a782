//! From files to a configuration of rustls.
//!
//! Invariant: what is returned can serve: the chain and the key parse and belong together, and every certificate is valid
//! at the moment of loading. Every error names its file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring as provider};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error as RustlsError, InconsistentKeys, RootCertStore, ServerConfig};

use super::certificate::{host_name, validity};
use super::config::{ClientCertificates, TlsConfig, TlsVersion};
use crate::pem;

/// The protocols of HTTP as ALPN names them (RFC 7301), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [super::HTTP2, b"http/1.1"];

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct TlsError {
    file: PathBuf,
    problem: String,
}

impl TlsError {
    pub(super) fn new(file: &Path, problem: impl ToString) -> Self {
        Self {
            file: file.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// A digest of the contents of all files.
pub(super) type Digest = [u8; SHA256_OUTPUT_LEN];

/// The contents of the files, or why one cannot be read. No `Debug`: the key is a secret.
pub(super) struct Contents {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
    authorities: Option<io::Result<Vec<u8>>>,
}

/// A configuration that can serve.
pub(super) struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    /// When the first certificate of the chain expires.
    pub(super) expires: SystemTime,
}

impl Contents {
    /// Reads the files. It blocks.
    pub(super) fn read(config: &TlsConfig) -> Self {
        Self {
            certificate: pem::read(&config.certificate),
            key: pem::read(&config.key),
            authorities: config.clients.as_ref().map(|clients| pem::read(&clients.authorities)),
        }
    }

    /// Returns a digest by which a change is noticed. That a file cannot be read is part of it.
    pub(super) fn digest(&self) -> Digest {
        let mut all = Context::new(&SHA256);
        for content in [Some(&self.certificate), Some(&self.key), self.authorities.as_ref()] {
            match content {
                Some(Ok(bytes)) => {
                    // With the length, so that bytes cannot move from one file to the next unnoticed.
                    all.update(&bytes.len().to_le_bytes());
                    all.update(bytes);
                }
                Some(Err(error)) => all.update(error.to_string().as_bytes()),
                None => all.update(b"none"),
            }
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(all.finish().as_ref());
        digest
    }

    /// Checks the contents and makes a configuration of them.
    pub(super) fn load(self, config: &TlsConfig, now: SystemTime) -> Result<Loaded, TlsError> {
        let provider = Arc::new(provider::default_provider());
        let chain = certificates(&config.certificate, self.certificate)?;
        let expires = check_validity(&config.certificate, &chain, now)?;
        let key = certified_key(config, chain, self.key, &provider)?;
        let verifier = match (&config.clients, self.authorities) {
            (Some(clients), Some(content)) => Some(client_verifier(clients, content, &provider)?),
            _ => None,
        };
        let versions: &[_] = match config.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let unusable = |error| TlsError::new(&config.certificate, error);
        // Never the process's default provider: rustls panics where two are compiled in.
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Tickets cost no memory for each client. Their key is new with each configuration, so no session outlives the
        // authorities that it was checked against.
        server.ticketer = provider::Ticketer::new().map_err(unusable)?;
        Ok(Loaded {
            server: Arc::new(server),
            expires,
        })
    }
}

/// Returns a host name that the certificate in a file is for, if it is for one and can be read. It blocks.
pub(crate) fn host_name_in(path: &Path) -> Option<String> {
    let chain = certificates(path, pem::read(path)).ok()?;
    host_name(chain.first()?)
}

fn certificates(path: &Path, content: io::Result<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = content.map_err(|error| TlsError::new(path, error))?;
    pem::certificates(&content).map_err(|problem| TlsError::new(path, problem))
}

/// Returns when the first of the chain expires.
fn check_validity(path: &Path, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<SystemTime, TlsError> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(seconds).unwrap_or(i64::MAX);
    let mut first = i64::MAX;
    for (number, der) in (1..).zip(chain) {
        let problem = |what: &str| TlsError::new(path, format!("certificate {number} of {}: {what}", chain.len()));
        let validity = validity(der).ok_or_else(|| problem("it cannot be read"))?;
        if validity.not_after <= now {
            return Err(problem("it has expired"));
        }
        if validity.not_before > now {
            return Err(problem("it is not valid yet"));
        }
        first = first.min(validity.not_after);
    }
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(first).unwrap_or(0)))
}

fn certified_key(
    config: &TlsConfig,
    chain: Vec<CertificateDer<'static>>,
    content: io::Result<Vec<u8>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let problem = |what: &dyn std::fmt::Display| TlsError::new(&config.key, what);
    let content = content.map_err(|error| problem(&error))?;
    let key = pem::private_key(&content).map_err(|what| problem(&what))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let certificate = config.certificate.display();
            problem(&format_args!(
                "the key does not belong to the certificate in {certificate}"
            ))
        }
        error => problem(&format_args!("the key cannot be used: {error}")),
    })
}

fn client_verifier(
    clients: &ClientCertificates,
    content: io::Result<Vec<u8>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let path = &clients.authorities;
    let mut authorities = RootCertStore::empty();
    for authority in certificates(path, content)? {
        authorities.add(authority).map_err(|error| TlsError::new(path, error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider));
    let builder = match clients.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| TlsError::new(path, error))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    fn issue(from: i32, to: i32) -> (String, String) {
        let mut params = CertificateParams::new(["cenote.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// Loads these contents at the beginning of 2030.
    fn load(certificate: &str, key: &str, authorities: Option<&str>) -> Result<SystemTime, String> {
        let directory = TempDir::new().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let config = TlsConfig {
            certificate: file("certificate.pem", certificate),
            key: file("key.pem", key),
            clients: authorities.map(|content| ClientCertificates {
                authorities: file("clients.pem", content),
                required: true,
            }),
            min_version: TlsVersion::Tls12,
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let loaded = Contents::read(&config).load(&config, now);
        loaded.map(|loaded| loaded.expires).map_err(|error| {
            let error = error.to_string();
            error.replace(&format!("{}/", directory.path().display()), "")
        })
    }

    #[test]
    fn a_chain_expires_with_the_first_of_its_certificates() {
        let ((first, key), (second, _)) = (issue(2025, 2040), issue(2025, 2035));
        let expires = load(&format!("{first}\n{second}"), &key, None).unwrap();
        assert_eq!(expires, UNIX_EPOCH + Duration::from_secs(2_051_222_400));
    }

    #[test]
    fn every_refusal_names_the_file_and_the_reason() {
        let ((good, key), (other, other_key)) = (issue(2025, 2040), issue(2025, 2040));
        let (expired, expired_key) = issue(2020, 2029);
        let (early, early_key) = issue(2031, 2040);
        let whole = |certificate: &str, key: &str| load(certificate, key, None).unwrap_err();
        for (error, expected) in [
            (whole("", &key), "certificate.pem: holds no certificate in PEM form"),
            (
                whole(&good[..good.len() / 2], &key),
                "certificate.pem: holds a certificate that is not whole PEM",
            ),
            (
                whole(&format!("{good}{}", &other[..100]), &key),
                "certificate.pem: holds a certificate that is not whole PEM",
            ),
            (whole(&good, ""), "key.pem: holds no private key in PEM form"),
            (
                whole(&good, &key[..key.len() / 2]),
                "key.pem: holds a private key that is not whole PEM",
            ),
            (
                whole(&good, &other_key),
                "key.pem: the key does not belong to the certificate in certificate.pem",
            ),
            (
                whole(&expired, &expired_key),
                "certificate.pem: certificate 1 of 1: it has expired",
            ),
            (
                whole(&early, &early_key),
                "certificate.pem: certificate 1 of 1: it is not valid yet",
            ),
            (
                whole(&format!("{good}{expired}"), &key),
                "certificate.pem: certificate 2 of 2: it has expired",
            ),
            (
                load(&good, &key, Some("")).unwrap_err(),
                "clients.pem: holds no certificate in PEM form",
            ),
        ] {
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("PRIVATE KEY-----"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_endless_is_refused() {
        let config = |certificate: &str| TlsConfig {
            certificate: certificate.into(),
            key: "/nowhere/key.pem".into(),
            clients: None,
            min_version: TlsVersion::Tls12,
        };
        for (path, expected) in [
            ("/nowhere/certificate.pem", "/nowhere/certificate.pem: No such file"),
            ("/dev/zero", "/dev/zero: is longer than 4 MiB"),
        ] {
            let config = config(path);
            let refused = Contents::read(&config).load(&config, SystemTime::now());
            let error = refused.err().unwrap().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
