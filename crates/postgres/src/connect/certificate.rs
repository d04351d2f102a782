//! Reads the parts of an X.509 certificate that webpki does not: it refuses version 1 and knows no names except subject
//! alternative names.
//!
//! Invariant: nothing here decides whether a certificate is trusted, and no input makes it panic.

use std::time::Duration;

use ring::digest::{self, Algorithm};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The tag of the element with number 0 in a SEQUENCE of numbered elements.
const FIRST: u8 = 0xa0;

/// The parts of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificate<'a> {
    /// The version of X.509, 1 to 3.
    pub(crate) version: u8,
    pub(crate) key: PublicKey<'a>,
    /// Since 1970.
    pub(crate) not_before: Duration,
    /// Since 1970.
    pub(crate) not_after: Duration,
    /// Whether its subject and its issuer are the same.
    pub(crate) is_self_issued: bool,
    signature: &'a [u8],
}

/// The public key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    /// The content of the `AlgorithmIdentifier`.
    pub(crate) algorithm: &'a [u8],
    pub(crate) bits: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }` of RFC 5280, section 4.1.
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(SEQUENCE, der)?;
        let (fields, after) = element(SEQUENCE, certificate)?;
        let (signature, _) = element(SEQUENCE, after)?;
        // Version 1 is the default and left out.
        let (version, fields) = match element(FIRST, fields) {
            Some((version, fields)) => match element(INTEGER, version)? {
                ([number @ 0..=2], _) => (number + 1, fields),
                _ => return None,
            },
            None => (1, fields),
        };
        let (_serial, fields) = element(INTEGER, fields)?;
        let (_algorithm, fields) = element(SEQUENCE, fields)?;
        let (issuer, fields) = element(SEQUENCE, fields)?;
        let (validity, fields) = element(SEQUENCE, fields)?;
        let (subject, fields) = element(SEQUENCE, fields)?;
        let (key, _) = element(SEQUENCE, fields)?;
        let (not_before, after) = time(validity)?;
        let (not_after, _) = time(after)?;
        Some(Self {
            version,
            key: PublicKey::read(key)?,
            not_before,
            not_after,
            is_self_issued: issuer == subject,
            signature,
        })
    }

    /// Returns the hash of the certificate's signature, for `tls-server-end-point` of RFC 5929, which replaces MD5 and
    /// SHA-1 by SHA-256. `None` for signatures without a hash, such as Ed25519, which the RFC does not cover.
    pub(crate) fn hash(&self) -> Option<&'static Algorithm> {
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
        let (identifier, parameters) = element(OBJECT_IDENTIFIER, self.signature)?;
        match (identifier.strip_prefix(RSA), identifier.strip_prefix(ECDSA)) {
            (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(&digest::SHA256),
            (Some([12]), _) | (_, Some([3, 3])) => Some(&digest::SHA384),
            (Some([13]), _) | (_, Some([3, 4])) => Some(&digest::SHA512),
            (Some([10]), _) => hash_of_pss(parameters),
            _ => None,
        }
    }
}

/// `RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] DEFAULT sha1, … }`
fn hash_of_pss(parameters: &[u8]) -> Option<&'static Algorithm> {
    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let (parameters, _) = element(SEQUENCE, parameters)?;
    let Some((hash, _)) = element(FIRST, parameters) else {
        return Some(&digest::SHA256);
    };
    let (hash, _) = element(SEQUENCE, hash)?;
    let (identifier, _) = element(OBJECT_IDENTIFIER, hash)?;
    match identifier.strip_prefix(SHA2) {
        Some([1]) => Some(&digest::SHA256),
        Some([2]) => Some(&digest::SHA384),
        Some([3]) => Some(&digest::SHA512),
        _ => (identifier == SHA1).then_some(&digest::SHA256),
    }
}

impl<'a> PublicKey<'a> {
    /// The content of a `SubjectPublicKeyInfo`.
    fn read(info: &'a [u8]) -> Option<Self> {
        let (algorithm, after) = element(SEQUENCE, info)?;
        let (bits, _) = element(BIT_STRING, after)?;
        // All bits of the last byte are used.
        let bits = bits.strip_prefix(&[0])?;
        Some(Self { algorithm, bits })
    }

    /// Returns the length of the modulus of an RSA key in bits.
    pub(crate) fn rsa_length(&self) -> Option<usize> {
        let (numbers, _) = element(SEQUENCE, self.bits)?;
        let (modulus, _) = element(INTEGER, numbers)?;
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let first = modulus.get(zeros)?;
        Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
    }
}

/// Returns a time since 1970, `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, and the bytes after it. Earlier times become 1970.
fn time(bytes: &[u8]) -> Option<(Duration, &[u8])> {
    let (text, after, century) = match element(UTC_TIME, bytes) {
        Some((text, after)) => (text, after, None),
        None => {
            let (text, after) = element(GENERALIZED_TIME, bytes)?;
            (text.get(2..)?, after, Some(number(text.get(..2)?)?))
        }
    };
    if text.len() != 13 || text[12] != b'Z' {
        return None;
    }
    let part = |index: usize| number(&text[index * 2..index * 2 + 2]);
    let (year, month, day) = (part(0)?, part(1)?, part(2)?);
    let (hour, minute, second) = (part(3)?, part(4)?, part(5)?);
    // RFC 5280, section 4.1.2.5.1: two digits stand for 1950 to 2049.
    let year = match century {
        Some(century) => century * 100 + year,
        None if year < 50 => 2000 + year,
        None => 1900 + year,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((Duration::from_secs(u64::try_from(seconds).unwrap_or(0)), after))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Returns the days from 1970 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counted from March, so that the leap day is the last of its year.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (month * 153 + 2) / 5;
    // 719,468 days lie between the first of March of the year 0 and 1970.
    before_year + before_month + day - 1 - 719_468
}

/// Returns the content of a DER element with this tag, and the bytes after it.
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
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd,
    };

    use super::*;

    #[test]
    fn the_hash_of_a_certificate_is_that_of_its_signature() {
        for (algorithm, expected) in [
            (&PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&PKCS_ED25519, None),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(["h".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(Certificate::read(certificate.der()).unwrap().hash(), expected);
        }
    }

    #[test]
    fn the_length_of_an_rsa_key_is_that_of_its_modulus() {
        for length in [1024, 2048] {
            let command =
                format!("req -new -x509 -nodes -newkey rsa:{length} -keyout /dev/null -outform DER -subj /CN=h");
            let output = std::process::Command::new("openssl")
                .args(command.split(' '))
                .output()
                .unwrap();
            let certificate = Certificate::read(&output.stdout).unwrap();
            assert_eq!(certificate.key.rsa_length(), Some(length));
        }
    }

    #[test]
    fn dates_before_and_after_2050_are_read() {
        let key = KeyPair::generate().unwrap();
        for (year, seconds) in [
            (1971, 31_536_000),
            (2024, 1_704_067_200),
            (2049, 2_493_072_000),
            (2100, 4_102_444_800),
        ] {
            let mut params = CertificateParams::new(["h".to_owned()]).unwrap();
            params.not_before = date_time_ymd(year, 1, 1);
            params.not_after = date_time_ymd(2199, 3, 1);
            let certificate = params.self_signed(&key).unwrap();
            let read = Certificate::read(certificate.der()).unwrap();
            assert_eq!((read.version, read.is_self_issued), (3, true));
            assert_eq!(read.not_before.as_secs(), seconds, "{year}");
            assert_eq!(read.not_after.as_secs(), 7_231_680_000);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let _ = Certificate::read(&bytes);
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let mut der = certificate.der().to_vec();
            let at = at.index(der.len());
            der[at] = byte;
            if let Some(read) = Certificate::read(&der) {
                let _ = (read.hash(), read.key.rsa_length());
            }
        }
    }
}
