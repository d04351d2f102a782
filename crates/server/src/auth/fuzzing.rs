//! What the fuzz targets call. Invariant: each function returns for every input.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    ClaimRules,
    api_key::ApiKey,
    jwt::{KeySet, verify},
};

/// The text of a key, if it is well-formed.
#[must_use]
pub fn parse_api_key(text: &[u8]) -> Option<String> {
    ApiKey::parse(text).ok().map(|key| key.expose().to_owned())
}

/// Whether a token is accepted with a secret that nobody knows.
#[must_use]
pub fn accepts_token(text: &str) -> bool {
    let keys = KeySet::of_secret(b"0123456789abcdef0123456789abcdef");
    keys.is_ok_and(|keys| verify(text, &keys, &ClaimRules::default()).is_ok())
}

/// Verifies a token of this header and these claims, and judges the claims.
pub fn judge_token(header: &[u8], claims: &[u8]) {
    let part = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    let _refused = accepts_token(&format!("{}.{}.AA", part(header), part(claims)));
    if let Ok(claims) = serde_json::from_slice(claims) {
        let rules = ClaimRules {
            issuer: Some("issuer".to_owned()),
            audiences: vec!["audience".to_owned()],
            leeway: 30,
            scopes: Some("/a/0/b".to_owned()),
        };
        for rules in [rules, ClaimRules::default()] {
            if let Ok((_, lifetime)) = rules.judge(&claims) {
                let _times = lifetime.judge(i64::MAX, 300).is_ok() || lifetime.judge(i64::MIN, 300).is_ok();
            }
        }
    }
}

/// The number of usable keys in a JWK set.
#[must_use]
pub fn count_keys(document: &[u8], is_public: bool) -> usize {
    KeySet::parse(document, is_public).map_or(0, |keys| keys.len())
}
