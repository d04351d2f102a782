//! The URL of a JWK set. Invariant: what is fetched over it cannot be changed on the way, so it is `https`, or `http` on
//! this machine.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::Uri;

/// An `https` URL, or an `http` URL whose host is this machine. It has no user, password or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    pub(super) is_tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As in the `Host` header.
    pub(super) authority: String,
    pub(super) path: String,
}

impl FromStr for JwksUrl {
    /// The complaint continues a sentence that starts with the URL.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user or password, which is not supported".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("has no host".into());
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(host) => false,
            Some("http") => return Err("is not encrypted: it must be https://, or http:// to this machine".into()),
            _ => return Err("must start with https://".into()),
        };
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
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

    #[test]
    fn a_host_and_its_port_are_found() {
        let url = parse("https://[2001:db8::1]:8443/keys?v=1").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path.as_str()),
            ("2001:db8::1", 8443, "/keys?v=1")
        );
        let url = parse("https://issuer.example").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path.as_str()),
            ("issuer.example", 443, "/")
        );
    }
}
