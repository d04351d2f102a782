//! Where requests go, and what they show. Invariant: all requests to one service show the same credentials.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::hmac;

use super::{
    outcome::Outcome,
    services::{Credentials, Service, TOKEN_SECRET},
};

/// How long a token is valid, in seconds: longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// A service's address, and the header that requests to it have.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// With its line end; empty if none.
    pub(super) header: Arc<str>,
    /// The status of a good answer.
    pub(super) answer: u16,
}

impl Target {
    /// The target of requests that show nothing, and get 200.
    #[cfg(test)]
    pub(super) fn bare(address: SocketAddr) -> Self {
        Self {
            address,
            header: Arc::default(),
            answer: 200,
        }
    }

    /// The target of requests to a service that listens at this address. `key` is an API key.
    ///
    /// # Errors
    ///
    /// The clock shows a time before 1970.
    pub(super) fn new(service: &Service, address: SocketAddr, key: &str) -> Outcome<Self> {
        let shown = match service.credentials {
            Credentials::Nothing => None,
            Credentials::Key => Some(key.to_owned()),
            Credentials::WrongKey => Some(format!("cnk_{}", "0".repeat(36))),
            Credentials::Token => Some(token()?),
        };
        let header = shown.map(|shown| format!("authorization: Bearer {shown}\r\n"));
        Ok(Self {
            address,
            header: header.unwrap_or_default().into(),
            answer: service.answer,
        })
    }
}

fn token() -> Outcome<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let claims = serde_json::json!({
        "iss": "https://id.example.org",
        "sub": "benchmark",
        "scope": "read write",
        "exp": now + LIFETIME,
    });
    let parts = [r#"{"alg":"HS256","typ":"JWT"}"#.to_owned(), claims.to_string()];
    let signed = parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN_SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
