//! JSON Web Tokens, right and wrong, signed by the tests themselves.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

/// The secret of the issuer.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes, for tests";

/// A token with this header and these claims.
pub(crate) fn token(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A valid token of the issuer and audience of the tests, with these scopes, after `change` to its claims.
pub(crate) fn token_with(scopes: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "sub": "ada", "iss": "https://issuer.example", "aud": "cenote", "scope": scopes, "exp": in_seconds(600),
    });
    change(&mut claims);
    token(&json!({"alg": "HS256", "typ": "JWT"}), &claims, SECRET)
}

/// The time that many seconds from now, as a NumericDate.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}
