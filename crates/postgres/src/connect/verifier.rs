//! Decides whether a server's certificate is accepted.
//!
//! Invariant: what `sslmode` asks for is checked, or the connection is refused with a reason. Channel binding is used
//! only if the server proved that it has its certificate's key.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, UnixTime, alg_id},
    server::ParsedCertificate,
};

use crate::{connect::certificate::Certificate, connect::tls::Verify};

/// The lengths in bits of RSA keys whose signatures ring can check.
const RSA_LENGTHS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The kinds of key whose signatures ring can check.
const KEYS: &str = "RSA of 2048 to 8192 bits, ECDSA P-256 and P-384, and Ed25519";

/// The trusted authorities.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) store: RootCertStore,
    /// The certificates of the file. A server may show one of them as its own.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// Checks the certificate of one connection, and that the server has its key.
#[derive(Debug)]
pub(crate) struct Verifier {
    verify: Verify,
    authorities: Option<Arc<Authorities>>,
    algorithms: WebPkiSupportedAlgorithms,
    key_was_proven: AtomicBool,
}

impl Verifier {
    pub(crate) fn new(
        verify: Verify,
        authorities: Option<Arc<Authorities>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            verify,
            authorities,
            algorithms,
            key_was_proven: AtomicBool::new(false),
        }
    }

    /// Whether the server proved that it has the key of its certificate. Only then does the certificate identify it.
    pub(crate) fn key_was_proven(&self) -> bool {
        self.key_was_proven.load(Relaxed)
    }

    /// Whether the certificate is self-signed and trusted itself, which libpq accepts. webpki refuses one of version 1
    /// or marked as an authority, which the certificates of PostgreSQL's documentation are.
    fn is_own_authority(&self, der: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(false);
        };
        let Some(certificate) = Certificate::read(der) else {
            return Ok(false);
        };
        if !certificate.is_self_issued || !authorities.certificates.contains(der) {
            return Ok(false);
        }
        let now = now.as_secs();
        if now > certificate.not_after.as_secs() {
            return Err(CertificateError::Expired.into());
        }
        if now < certificate.not_before.as_secs() {
            return Err(CertificateError::NotValidYet.into());
        }
        Ok(true)
    }

    /// Checks that the message was signed with the certificate's key.
    fn check_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        algorithms_of_scheme: usize,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = Certificate::read(certificate).map(|certificate| certificate.key);
        let key = key.filter(|key| {
            key.algorithm != alg_id::RSA_ENCRYPTION.as_ref()
                || key.rsa_length().is_some_and(|length| RSA_LENGTHS.contains(&length))
        });
        let mut of_scheme = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme);
        let algorithm = of_scheme.next().zip(key).and_then(|((_, algorithms), key)| {
            let mut algorithms = algorithms.iter().take(algorithms_of_scheme);
            let algorithm = algorithms.find(|it| it.public_key_alg_id().as_ref() == key.algorithm)?;
            Some((algorithm, key))
        });
        match algorithm {
            Some((algorithm, key)) => {
                let checked = algorithm.verify_signature(key.bits, message, signed.signature());
                checked.map_err(|_| CertificateError::BadSignature)?;
                self.key_was_proven.store(true, Relaxed);
                Ok(HandshakeSignatureValid::assertion())
            }
            // The identity of the server is not verified, so its key does not matter.
            None if self.verify == Verify::Nothing => Ok(HandshakeSignatureValid::assertion()),
            None => Err(Error::General(format!(
                "the kind or length of its key is not supported; those are {KEYS}"
            ))),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verify == Verify::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let authorities = self.authorities.as_ref();
        let authorities = authorities.ok_or_else(|| Error::General("no authorities are known".to_owned()))?;
        let is_own_authority = self.is_own_authority(der, now)?;
        if is_own_authority && self.verify == Verify::Authority {
            return Ok(ServerCertVerified::assertion());
        }
        if Certificate::read(der).is_some_and(|certificate| certificate.version < 3) {
            let problem = match is_own_authority {
                true => "it is X.509 version 1, which names no host: verify-full needs a subjectAltName",
                false => {
                    "it is X.509 version 1, which cannot be verified: issue it with a subjectAltName, \
                          which makes it version 3"
                }
            };
            return Err(Error::General(problem.to_owned()));
        }
        let certificate = ParsedCertificate::try_from(der)?;
        if !is_own_authority {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &authorities.store,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if self.verify == Verify::Host {
            verify_server_name(&certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // In TLS 1.2 a scheme does not fix the curve of an ECDSA key.
        self.check_key(message, certificate, signed, usize::MAX)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        use SignatureScheme as S;
        if matches!(
            signed.scheme,
            S::RSA_PKCS1_SHA1 | S::RSA_PKCS1_SHA256 | S::RSA_PKCS1_SHA384 | S::RSA_PKCS1_SHA512 | S::ECDSA_SHA1_Legacy
        ) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.check_key(message, certificate, signed, 1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        if self.verify == Verify::Nothing {
            // Schemes that ring cannot check. The first three are for RSA-PSS keys (RFC 8446, 4.2.3).
            schemes.extend([0x0809, 0x080a, 0x080b].map(SignatureScheme::Unknown));
            schemes.extend([SignatureScheme::ECDSA_NISTP521_SHA512, SignatureScheme::ED448]);
        }
        schemes
    }
}

/// Returns an explanation of a TLS error.
pub(crate) fn explain(error: &Error) -> String {
    let problem = match error {
        Error::General(problem) => problem.clone(),
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => "no authority in sslrootcert has issued it".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "it has no subjectAltName, and a common name does not count".to_owned()
            }
            // rustls names the hosts that it is for.
            CertificateError::NotValidForNameContext { .. } => problem.to_string(),
            CertificateError::BadSignature => "its key is not that of the server, or its issuer did not sign it".to_owned(),
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "it is marked as an authority (CA:TRUE): issue one for the server, or name this very certificate in sslrootcert"
                    .to_owned()
            }
            problem => problem.to_string(),
        },
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            return format!(
                "the server accepts none of the ciphers and kinds of key that are supported: TLS 1.2 and 1.3, and for a \
                 certificate that is verified {KEYS}"
            );
        }
        error => return error.to_string(),
    };
    format!("the server's certificate is not accepted: {problem}")
}
