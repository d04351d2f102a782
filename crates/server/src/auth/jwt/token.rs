//! The form of a signed token: `header.payload.signature` in base64url (RFC 7515, section 7.1).
//!
//! Invariant: nothing in a token is believed here. Its header only chooses among the keys that are there; links to keys in
//! it (`jku`, `x5u`, `jwk`) are ignored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

/// Longest token in bytes.
pub(crate) const TOKEN_BYTES: usize = 8 << 10;

/// A token whose signature is not verified. It has no `Debug`, because it is a secret.
pub(super) struct Token<'a> {
    pub(super) header: Header,
    /// What the signature is of: the header, a dot, and the payload, as they were sent.
    pub(super) signed: &'a str,
    payload: &'a str,
    pub(super) signature: Vec<u8>,
}

/// The header, as far as it is used. A member that occurs twice is an error.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// Unlike serde's `Option`, takes `null` for a value of a wrong type.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The text is not a token that this program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedToken;

impl<'a> Token<'a> {
    /// Takes the text apart. No extension is understood, so a token with `crit` is refused (RFC 7515, section 4.1.11).
    pub(super) fn parse(text: &'a str) -> Result<Self, MalformedToken> {
        if text.len() > TOKEN_BYTES {
            return Err(MalformedToken);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(MalformedToken)?;
        let (header, payload) = signed.split_once('.').ok_or(MalformedToken)?;
        if payload.contains('.') {
            return Err(MalformedToken);
        }
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MalformedToken)?;
        if header.crit.is_some() {
            return Err(MalformedToken);
        }
        let signature = decode(signature)?;
        Ok(Self {
            header,
            signed,
            payload,
            signature,
        })
    }

    /// The claims. Ask only after the signature was verified.
    pub(super) fn payload(&self) -> Result<serde_json::Value, MalformedToken> {
        serde_json::from_slice(&decode(self.payload)?).map_err(|_| MalformedToken)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, MalformedToken> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| MalformedToken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn a_header_that_is_not_understood_completely_is_malformed() {
        for header in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            r#"{"alg":"HS256","kid":7}"#,
            r#"{"alg":"HS256","kid":null}"#,
            r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":null}"#,
            r#"{"alg":"HS256"} x"#,
        ] {
            assert_eq!(Token::parse(&token(header)).err(), Some(MalformedToken), "{header}");
        }
        let header = r#"{"typ":"at+jwt","jku":"https://evil.example","alg":"HS256","kid":"a"}"#;
        let parsed = token(header);
        let parsed = Token::parse(&parsed).unwrap();
        assert_eq!(
            (parsed.header.alg.as_str(), parsed.header.kid.as_deref()),
            ("HS256", Some("a"))
        );
    }

    #[test]
    fn a_token_has_three_parts_without_padding_and_at_most_8_kib() {
        let good = token(r#"{"alg":"HS256"}"#);
        assert!(Token::parse(&good).is_ok());
        for bad in [
            "",
            ".",
            "..",
            &good.replace("e30.AA", "e30"),
            &format!("{good}.AA"),
            &format!("{good}="),
            &format!("{good}B"),
            &format!(" {good}"),
            &format!("{good}{}", "A".repeat(TOKEN_BYTES)),
        ] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", header in "\\PC*") {
            let _any = Token::parse(&text);
            let text = token(&header);
            if let Ok(token) = Token::parse(&text) {
                let _any = token.payload();
            }
        }
    }
}
