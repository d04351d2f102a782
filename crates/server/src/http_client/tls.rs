//! Whom a client trusts, and the certificate that it shows. Invariant: a server's certificate is always verified, with its
//! name.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ConfigBuilder, Error, RootCertStore,
        client::WantsClientCert,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        version::{TLS12, TLS13},
    },
};

use crate::pem;

/// The files (PEM) of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authorities that may sign the server's certificate; `None`: those that the system trusts.
    pub(crate) authorities: Option<PathBuf>,
    /// The certificate of the client with its chain, and its private key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFilesError {
    #[error("{}: {problem}", file.display())]
    File { file: PathBuf, problem: String },
    #[error(transparent)]
    Config(#[from] Error),
}

fn unusable(file: &Path, problem: impl ToString) -> TlsFilesError {
    TlsFilesError::File {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

impl TlsFiles {
    pub(super) fn connector(&self) -> Result<TlsConnector, TlsFilesError> {
        let roots = match &self.authorities {
            Some(file) => authorities(file)?,
            None => system_authorities(),
        };
        let builder = trusting(roots)?;
        let config = match &self.certificate {
            Some((certificate, key)) => {
                let (chain, secret) = (certificates(certificate)?, private_key(key)?);
                let built = builder.with_client_auth_cert(chain, secret);
                built.map_err(|error| unusable(key, error))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Trusts the authorities of the system.
pub(super) fn of_system() -> Result<TlsConnector, Error> {
    let config = trusting(system_authorities())?.with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn trusting(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    // Never the process's default provider: rustls panics where two are compiled in.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS12, &TLS13])?;
    Ok(builder.with_root_certificates(roots))
}

/// Also those that SSL_CERT_FILE and SSL_CERT_DIR name.
fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsFilesError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(file, error))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    pem::certificates(&read(file)?).map_err(|problem| unusable(file, problem))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    pem::private_key(&read(file)?).map_err(|problem| unusable(file, problem))
}

fn read(file: &Path) -> Result<Vec<u8>, TlsFilesError> {
    pem::read(file).map_err(|error| unusable(file, error))
}
