//! Signatures and key sets, with tokens signed by ring.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{outcome::Outcome, scopes::Scopes};
use super::{
    claims::ClaimRules,
    key::UnusableKey,
    key_set::{InvalidKeySet, KeySet},
    signer::{SECRET, Signer},
    verifier,
};

fn claims() -> Value {
    json!({"sub": "ada", "exp": 4_000_000_000u64, "scope": "read"})
}

fn set(keys: &[Value]) -> KeySet {
    parse(keys).unwrap()
}

fn parse(keys: &[Value]) -> Result<KeySet, InvalidKeySet> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), false)
}

fn verify(token: &str, keys: &KeySet) -> Result<Scopes, Outcome> {
    let rules = ClaimRules {
        issuer: None,
        audiences: Vec::new(),
        leeway: 30,
        scopes: None,
    };
    verifier::verify(token, keys, &rules).map(|verified| verified.identity.scopes)
}

fn edited(mut jwk: Value, edit: &Value) -> Value {
    for (name, value) in edit.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

#[test]
fn each_algorithm_verifies_its_own_tokens_and_no_others() {
    let signers = Signer::all();
    for signer in &signers {
        let keys = set(&[signer.jwk("a")]);
        for id in [Some("a"), None] {
            let accepted = verify(&signer.token(id, &claims()), &keys);
            assert_eq!(accepted.unwrap().to_string(), "read", "{}", signer.algorithm());
        }
        for other in signers.iter().filter(|other| other.algorithm() != signer.algorithm()) {
            let refused = verify(&other.token(Some("a"), &claims()), &keys);
            assert_eq!(refused, Err(Outcome::Algorithm), "{}", other.algorithm());
            // With the right name, but a signature of another kind.
            let header = json!({"alg": signer.algorithm(), "kid": "a"});
            let refused = verify(&other.token_with_header(&header, &claims()), &keys);
            assert_eq!(refused, Err(Outcome::Signature), "{}", other.algorithm());
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for signer in [Signer::rs256(), Signer::es256(), Signer::eddsa()] {
        let jwk = signer.jwk("a");
        let fields = ["n", "x"].iter().filter_map(|name| jwk[*name].as_str());
        let raw = fields.clone().map(|field| URL_SAFE_NO_PAD.decode(field).unwrap());
        let texts = fields.map(|field| field.as_bytes().to_vec());
        for secret in raw.chain(texts).chain([jwk.to_string().into_bytes()]) {
            let forged = Signer::Hs256(secret).token(Some("a"), &claims());
            assert_eq!(
                verify(&forged, &set(std::slice::from_ref(&jwk))),
                Err(Outcome::Algorithm)
            );
        }
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let keys = set(&Signer::all().map(|signer| signer.jwk("a")));
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "ES256K", "hs256",
    ] {
        for signature in ["", "AA"] {
            let token = format!(
                "{}.{}.{signature}",
                part(json!({"alg": alg, "kid": "a"})),
                part(claims())
            );
            assert_eq!(verify(&token, &keys), Err(Outcome::Algorithm), "{alg}");
        }
    }
    let token = format!("{}.{}.", part(json!({"alg": "HS256", "kid": "a"})), part(claims()));
    assert_eq!(verify(&token, &keys), Err(Outcome::Signature));
}

#[test]
fn a_key_id_chooses_the_key_and_without_one_every_key_is_tried() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let keys = set(&[old.jwk("old"), new.jwk("new")]);
    assert!(verify(&new.token(Some("new"), &claims()), &keys).is_ok());
    assert!(verify(&new.token(None, &claims()), &keys).is_ok());
    assert_eq!(
        verify(&new.token(Some("old"), &claims()), &keys),
        Err(Outcome::Signature)
    );
    assert_eq!(verify(&new.token(Some("next"), &claims()), &keys), Err(Outcome::Kid));
    assert_eq!(verify(&new.token(Some(""), &claims()), &keys), Err(Outcome::Kid));
    let other = Signer::es256();
    assert_eq!(verify(&other.token(None, &claims()), &keys), Err(Outcome::Signature));
}

#[test]
fn a_key_without_an_id_is_tried_for_every_token_of_its_algorithm() {
    let signer = Signer::hs256();
    let keys = KeySet::of_secret(SECRET).unwrap();
    assert!(verify(&signer.token(Some("any"), &claims()), &keys).is_ok());
    let other = Signer::Hs256(vec![b'x'; 32]);
    assert_eq!(
        verify(&other.token(Some("any"), &claims()), &keys),
        Err(Outcome::Signature)
    );
}

#[test]
fn a_secret_needs_32_bytes() {
    assert_eq!(KeySet::of_secret(&[b'x'; 31]).err(), Some(UnusableKey::Length));
    assert!(KeySet::of_secret(&[b'x'; 32]).is_ok());
}

#[test]
fn keys_for_other_purposes_and_of_other_kinds_are_skipped() {
    let (rsa, ec, ed, oct) = (Signer::rs256(), Signer::es256(), Signer::eddsa(), Signer::hs256());
    let unusable = |jwk: Value, edit: Value| match parse(&[edited(jwk, &edit)]) {
        Err(InvalidKeySet::Unusable(problem)) => problem,
        other => panic!("{edit}: {other:?}"),
    };
    for edit in [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": []}),
    ] {
        assert_eq!(unusable(ec.jwk("a"), edit), UnusableKey::Purpose);
    }
    for edit in [
        json!({"alg": "HS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "RSA-OAEP"}),
        json!({"kty": "EC2"}),
    ] {
        assert_eq!(unusable(rsa.jwk("a"), edit), UnusableKey::Unsupported);
    }
    for edit in [json!({"crv": "P-384"}), json!({"crv": null}), json!({"crv": "Ed25519"})] {
        assert_eq!(unusable(ec.jwk("a"), edit), UnusableKey::Unsupported);
    }
    assert_eq!(
        unusable(ed.jwk("a"), json!({"crv": "X25519"})),
        UnusableKey::Unsupported
    );
    for edit in [
        json!({"n": null}),
        json!({"n": "a+b"}),
        json!({"n": "AQAB="}),
        json!({"kid": 7}),
        json!({"kty": null}),
    ] {
        assert_eq!(unusable(rsa.jwk("a"), edit), UnusableKey::Malformed);
    }
    for edit in [json!({"x": "AA"}), json!({"y": "AA"})] {
        assert_eq!(unusable(ec.jwk("a"), edit), UnusableKey::Malformed);
    }
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let huge = URL_SAFE_NO_PAD.encode([0xff; 1025]);
    for edit in [
        json!({"n": short}),
        json!({"n": huge}),
        json!({"n": ""}),
        json!({"n": "AAAA"}),
    ] {
        assert_eq!(unusable(rsa.jwk("a"), edit), UnusableKey::Length);
    }
    assert_eq!(unusable(oct.jwk("a"), json!({"k": "c2hvcnQ"})), UnusableKey::Length);
    let keys = set(&[edited(rsa.jwk("a"), &json!({"use": "enc"})), json!(7), ec.jwk("a")]);
    assert_eq!(keys.len(), 1);
    assert!(verify(&ec.token(Some("a"), &claims()), &keys).is_ok());
}

#[test]
fn keys_that_state_their_purpose_are_used() {
    let signer = Signer::eddsa();
    for edit in [
        json!({"use": "sig", "alg": "EdDSA"}),
        json!({"key_ops": ["verify"], "alg": "Ed25519"}),
        json!({"key_ops": ["sign", "verify"], "x5c": ["…"], "x5t": 7}),
    ] {
        assert_eq!(parse(&[edited(signer.jwk("a"), &edit)]).unwrap().len(), 1, "{edit}");
    }
}

#[test]
fn a_modulus_with_a_sign_byte_is_accepted() {
    let signer = Signer::rs256();
    let jwk = signer.jwk("a");
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let with_sign = URL_SAFE_NO_PAD.encode([&[0], n.as_slice()].concat());
    let keys = set(&[edited(jwk, &json!({"n": with_sign}))]);
    assert!(verify(&signer.token(Some("a"), &claims()), &keys).is_ok());
}

#[test]
fn secrets_and_private_keys_in_a_public_document_are_skipped() {
    for key in [
        Signer::hs256().jwk("a"),
        edited(Signer::eddsa().jwk("a"), &json!({"d": "AA"})),
    ] {
        let document = json!({ "keys": [key] }).to_string();
        let refused = KeySet::parse(document.as_bytes(), true).err();
        assert_eq!(refused, Some(InvalidKeySet::Unusable(UnusableKey::Exposed)));
        assert!(KeySet::parse(document.as_bytes(), false).is_ok());
    }
}

#[test]
fn a_document_is_bounded_and_not_empty() {
    assert_eq!(parse(&[]).err(), Some(InvalidKeySet::Empty));
    for malformed in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert_eq!(
            KeySet::parse(malformed.as_bytes(), false).err(),
            Some(InvalidKeySet::Malformed)
        );
    }
    let key = Signer::eddsa().jwk("a");
    assert_eq!(parse(&vec![key.clone(); 64]).unwrap().len(), 64);
    assert_eq!(parse(&vec![key.clone(); 65]).err(), Some(InvalidKeySet::TooMany(65)));
    let long = json!({"keys": [key], "padding": "x".repeat(256 << 10)}).to_string();
    assert_eq!(
        KeySet::parse(long.as_bytes(), false).err(),
        Some(InvalidKeySet::TooLong)
    );
}

#[test]
fn no_secret_is_in_debug_output() {
    let keys = set(&[Signer::hs256().jwk("a")]);
    let shown = format!("{keys:?}");
    assert!(shown.contains("Hs256") && !shown.contains("secret"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_changed_character_makes_a_token_invalid(at in any::<prop::sample::Index>(), with in "[0-9A-Za-z_.-]") {
        for signer in Signer::all() {
            let keys = set(&[signer.jwk("a")]);
            let token = signer.token(Some("a"), &claims());
            let at = at.index(token.len());
            if token[at..=at] != with {
                let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
                prop_assert!(verify(&changed, &keys).is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn no_document_makes_the_parser_panic(text in "\\PC*", value in "[A-Za-z0-9_=-]{0,50}", kty in "RSA|EC|OKP|oct") {
        let _any = KeySet::parse(text.as_bytes(), true);
        let key = json!({"kty": kty, "crv": value, "n": value, "e": value, "x": value, "y": value, "k": value});
        let document = json!({ "keys": [key] }).to_string();
        if let Ok(keys) = KeySet::parse(document.as_bytes(), false) {
            for signer in Signer::all() {
                prop_assert!(verify(&signer.token(None, &claims()), &keys).is_err());
            }
        }
    }
}
