//! Certificates for tests. Invariant: it writes no file, so a test that keeps an authority in a `static` leaves none
//! behind.

#![allow(clippy::expect_used, reason = "a failed test setup may panic")]

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A certificate authority that lives as long as a test.
///
/// All functions panic if a key cannot be generated or a name is not valid.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// An authority with a new key.
    ///
    /// Its name must differ from those of the certificates that it issues: OpenSSL takes a certificate for self-signed
    /// if its issuer has the same name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key is generated");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority is signed");
        Self { issuer }
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its private key, both PEM, for a host or a database role.
    #[must_use]
    pub fn issue(&self, name: &str) -> (String, String) {
        self.sign(name, |_| {})
    }

    /// Like [`issue`](Self::issue), but the certificate expires after this time.
    #[must_use]
    pub fn issue_for(&self, name: &str, valid: Duration) -> (String, String) {
        let end = SystemTime::now() + valid;
        self.sign(name, |params| params.not_after = end.into())
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name is valid");
        change(&mut params);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key is generated");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate is signed");
        (certificate.pem(), key.serialize_pem())
    }
}
