//! URLs of HTTP services. Invariant: a URL holds no user, password or fragment, so it may be shown.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::Uri;

/// An `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    is_tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// As in the `Host` header.
    authority: String,
    /// With the query.
    path: String,
    /// The name that the certificate must have, if it is not the host's.
    tls_name: Option<String>,
}

impl FromStr for HttpUrl {
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
            Some("http") => false,
            _ => return Err("must start with https:// or http://".into()),
        };
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            tls_name: None,
        })
    }
}

impl HttpUrl {
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host, IPv6 without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As in the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path with the query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The name that the server's certificate must have.
    pub(super) fn tls_name(&self) -> &str {
        self.tls_name.as_deref().unwrap_or(&self.host)
    }

    /// The same URL, whose server shows a certificate for `name` instead of the host.
    pub(crate) fn with_tls_name(self, name: String) -> Self {
        Self {
            tls_name: Some(name),
            ..self
        }
    }

    /// The URL of a path, which starts with `/`, below this URL's.
    pub(crate) fn below(&self, path: &str) -> Self {
        let base = self.path.split('?').next().unwrap_or_default();
        Self {
            path: format!("{}{path}", base.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// Whether the server is this machine, by the name or address in the URL.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> HttpUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_and_its_port_are_found() {
        let url = parse("https://[2001:db8::1]:8443/keys?v=1");
        assert_eq!((url.host(), url.port(), url.path()), ("2001:db8::1", 8443, "/keys?v=1"));
        let url = parse("https://issuer.example");
        assert_eq!((url.host(), url.port(), url.path()), ("issuer.example", 443, "/"));
        assert_eq!(parse("http://issuer.example").port(), 80);
    }

    #[test]
    fn a_path_is_put_behind_that_of_the_url() {
        for (base, expected) in [
            ("http://a", "http://a/admin/state"),
            ("http://a/", "http://a/admin/state"),
            ("https://a:1/prefix/?x", "https://a:1/prefix/admin/state"),
        ] {
            assert_eq!(parse(base).below("/admin/state").to_string(), expected);
        }
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for (url, is_own) in [
            ("http://LocalHost:1", true),
            ("http://[::1]", true),
            ("http://127.9.9.9", true),
            ("http://localhost.example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(parse(url).is_of_this_machine(), is_own, "{url}");
        }
    }
}
