//! The hash that ties a login to its connection.

use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
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
        let hash = end_point(certificate.der());
        let expected = expected.map(|expected| digest::digest(expected, certificate.der()));
        assert_eq!(hash.as_deref(), expected.as_ref().map(AsRef::as_ref));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = signature_algorithm(&bytes);
    }
}
