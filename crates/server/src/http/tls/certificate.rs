//! Reads the parts of an X.509 certificate that rustls does not show: its validity and its subject.
//!
//! Invariant: nothing here decides whether a certificate is trusted, and two different subjects never have the same text.

use std::fmt::Write;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// When a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Returns when a certificate is valid; `None` if it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(Validity {
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// Returns a certificate's subject as RFC 4514 writes it. If it is empty, as in those of SPIFFE, it is the first
/// alternative name: `URI:spiffe://acme/reports`. `None` if there is neither, or the certificate cannot be read.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let text = distinguished_name(certificate.subject());
    match text.is_empty() {
        true => alternative_name(&certificate),
        false => Some(text),
    }
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        let (kind, value) = match name {
            GeneralName::URI(value) => ("URI:", value),
            GeneralName::DNSName(value) => ("DNS:", value),
            GeneralName::RFC822Name(value) => ("EMAIL:", value),
            _ => return None,
        };
        let mut text = kind.to_owned();
        write_value(&mut text, value);
        Some(text)
    })
}

/// Returns a host name that a certificate is for; `None` if it is for addresses alone, or cannot be read.
pub(super) fn host_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        // A wildcard stands for any first label.
        GeneralName::DNSName(name) => Some(name.replacen('*', "cenote", 1)),
        _ => None,
    })
}

/// The crate's own `Display` escapes nothing, so a common name of `a, O=b` would pass for two attributes.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    // The most specific part comes first in the text, and last in the certificate.
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type();
    match oid2abbrev(kind, oid_registry()) {
        Ok(short) => text.push_str(short),
        Err(_) => text.push_str(&kind.to_id_string()),
    }
    text.push('=');
    match attribute.as_str() {
        Ok(value) => write_value(text, value),
        Err(_) => {
            text.push('#');
            for byte in attribute.as_slice() {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
}

/// Escapes as RFC 4514, section 2.4, and control characters too, because the text is logged.
fn write_value(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => text.extend(['\\', character]),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(parts: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            let value = DnValue::Utf8String((*value).to_owned());
            params.distinguished_name.push(kind.clone(), value);
        }
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_subject_is_written_with_its_most_specific_part_first() {
        let der = certificate(&[
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Acme"),
            (DnType::CommonName, "reports"),
        ]);
        assert_eq!(subject(&der).unwrap(), "CN=reports,O=Acme,C=DE");
        assert_eq!(subject(&certificate(&[])), None);
    }

    #[test]
    fn without_a_subject_the_first_alternative_name_stands_for_it() {
        let named = |names: &[SanType]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.subject_alt_names = names.to_vec();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            subject(certificate.der())
        };
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        let uri = SanType::URI("spiffe://acme/reports;a".try_into().unwrap());
        let dns = SanType::DnsName("reports.acme".try_into().unwrap());
        assert_eq!(
            named(&[address.clone(), uri, dns.clone()]).as_deref(),
            Some(r"URI:spiffe://acme/reports\;a")
        );
        assert_eq!(named(&[dns]).as_deref(), Some("DNS:reports.acme"));
        assert_eq!(named(&[address]), None);
    }

    #[test]
    fn no_value_can_pass_for_another_attribute() {
        for (value, text) in [
            ("a,O=b", r"CN=a\,O\=b"),
            (r"a\", r"CN=a\\"),
            (" a ", r"CN=\ a\ "),
            ("#a", r"CN=\#a"),
            ("a\n\u{85}", r"CN=a\0a\c2\85"),
            ("ä", "CN=ä"),
        ] {
            assert_eq!(subject(&certificate(&[(DnType::CommonName, value)])).unwrap(), text);
        }
    }

    #[test]
    fn a_host_name_is_found_beside_addresses_and_in_wildcards() {
        for (names, expected) in [
            (
                &["127.0.0.1", "db.example.org", "other.example.org"][..],
                Some("db.example.org"),
            ),
            (&["*.example.org"], Some("cenote.example.org")),
            (&["127.0.0.1"], None),
            (&[], None),
        ] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let params = CertificateParams::new(names).unwrap();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(host_name(certificate.der()).as_deref(), expected);
        }
    }

    #[test]
    fn the_validity_is_read() {
        let validity = validity(&certificate(&[])).unwrap();
        assert_eq!(
            (validity.not_before, validity.not_after),
            (1_704_067_200, 4_102_444_800)
        );
        assert_eq!(super::validity(b"not a certificate"), None);
    }
}
