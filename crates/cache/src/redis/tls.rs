//! The configuration of TLS. Invariant: a server's certificate and its names are always checked.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use crate::config::{ClientIdentity, ConfigError};

/// Reads the certificates. Those of the system are read here, once, because there are many.
pub(crate) fn client_config(
    authorities: Option<&[u8]>,
    identity: Option<&ClientIdentity>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let refuse = |problem: String| ConfigError::Tls(problem);
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in certificates(pem).map_err(|error| refuse(format!("authorities: {error}")))? {
                let added = roots.add(certificate);
                added.map_err(|error| refuse(format!("authorities: {error}")))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let refuse = |error: &dyn std::fmt::Display| refuse(format!("identity: {error}"));
            let chain = certificates(&identity.certificate).map_err(|error| refuse(&error))?;
            let key = PrivateKeyDer::from_pem_slice(identity.key.expose());
            let key = key.map_err(|error| refuse(&error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| refuse(&error))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    match all.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(all),
    }
}
