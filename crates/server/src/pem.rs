//! Reads files of certificates and keys (PEM).
//!
//! Invariant: what is read is bounded, and each problem says what is wrong with the file; the caller says with which. No text
//! has anything of the content, which may be a secret.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longest file that is read. Chains and bundles of authorities are far shorter.
const LONGEST: u64 = 4 << 20;

/// What is wrong with a content. It continues a sentence that starts with the file.
pub(crate) type Problem = &'static str;

/// Reads a file. It blocks.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(io::Error::other("is longer than 4 MiB")),
        false => Ok(bytes),
    }
}

/// Returns all certificates of a content, at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    match all {
        Ok(all) if all.is_empty() => Err("holds no certificate in PEM form"),
        Ok(all) => Ok(all),
        Err(_) => Err("holds a certificate that is not whole PEM"),
    }
}

/// Returns the first private key of a content.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        pem::Error::NoItemsFound => "holds no private key in PEM form; an encrypted one cannot be used",
        _ => "holds a private key that is not whole PEM",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_of_a_content_is_told() {
        assert_eq!(certificates(b"").unwrap_err(), "holds no certificate in PEM form");
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert_eq!(
            certificates(cut).unwrap_err(),
            "holds a certificate that is not whole PEM"
        );
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(private_key(encrypted).unwrap_err().contains("an encrypted one"));
        let cut = b"-----BEGIN PRIVATE KEY-----\nAAAA\n";
        assert_eq!(
            private_key(cut).unwrap_err(),
            "holds a private key that is not whole PEM"
        );
    }

    #[test]
    fn a_file_that_is_no_bundle_is_not_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LONGEST + 1).unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("4 MiB"));
        file.as_file().set_len(LONGEST).unwrap();
        assert_eq!(read(file.path()).unwrap().len() as u64, LONGEST);
    }
}
