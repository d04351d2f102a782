//! Certificates for tests. Invariant: the files are removed with the authority that made them.

#![allow(clippy::expect_used, reason = "a failed test setup may panic")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// A certificate authority that lives as long as a test, and a directory for the files of its clients.
///
/// All functions panic if a key cannot be generated or a file cannot be written.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    /// An authority with a new key. Its own certificate is in the file `ca.crt` of its directory.
    ///
    /// Authorities and certificates need different names: OpenSSL takes a certificate for self-signed if its issuer has
    /// the same name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key is generated");
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority is signed"),
            directory: tempfile::tempdir().expect("a directory is created"),
        };
        authority.file("ca.crt", &authority.pem());
        authority
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The file that holds the authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate and its private key, both PEM, for a host or a database role.
    #[must_use]
    pub fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name is valid");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key is generated");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate is signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a file into the directory and returns its path. Only the owner can read it: libpq refuses a private key
    /// that others can read.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("a file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file is closed to others");
        path
    }

    /// The directory of the files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
