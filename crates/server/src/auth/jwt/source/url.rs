//! The URL of a JWK set. Invariant: what is fetched over it cannot be changed on the way, so it is `https`, or `http` on
//! this machine.

use std::{fmt, str::FromStr};

use crate::http_client::HttpUrl;

/// An `https` URL, or an `http` URL whose host is this machine. It has no user, password or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(HttpUrl);

impl JwksUrl {
    pub(super) fn url(&self) -> &HttpUrl {
        &self.0
    }
}

impl FromStr for JwksUrl {
    /// The complaint continues a sentence that starts with the URL.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: HttpUrl = text.parse()?;
        match url.is_tls() || url.is_of_this_machine() {
            true => Ok(Self(url)),
            false => Err("is not encrypted: it must be https://, or http:// to this machine".into()),
        }
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<JwksUrl, String> {
        text.parse()
    }

    #[test]
    fn a_url_is_encrypted_or_of_this_machine() {
        for good in [
            "https://issuer.example/.well-known/jwks.json",
            "https://issuer.example:8443/keys?v=1",
            "https://[2001:db8::1]/",
            "http://localhost:9000/jwks",
            "http://127.0.0.2/jwks",
            "http://[::1]:9000/jwks",
        ] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "issuer.example",
            "/jwks.json",
            "ftp://issuer.example/",
            "http://issuer.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://10.0.0.1/",
            "https://user:secret@issuer.example/",
            "http://127.0.0.1@evil.example/",
            "https:///jwks",
        ] {
            let complaint = parse(bad).unwrap_err();
            assert!(!complaint.contains("secret"), "{bad}: {complaint}");
        }
    }
}
