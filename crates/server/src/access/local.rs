//! Administration without authentication. Invariant: only a program on this machine may administer the service, and no web
//! page. A proxy on this machine that says in no header that it is one cannot be told from such a program; docs/administration.md
//! says so.

use axum::http::{HeaderMap, HeaderName, Request, StatusCode, header};

use crate::http::{Problem, RequestBody, SEC_FETCH_SITE, X_FORWARDED_FOR};

/// Headers that proxies add.
const OF_PROXIES: [HeaderName; 4] = [
    header::FORWARDED,
    header::VIA,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-real-ip"),
];

pub(super) fn is_local(request: &Request<RequestBody>) -> bool {
    let headers = request.headers();
    request.body().peer().address.is_loopback() && is_direct(headers) && names_this_machine(request)
}

/// Whether neither a proxy nor another site's page sent it.
fn is_direct(headers: &HeaderMap) -> bool {
    let is_foreign = headers.get(&SEC_FETCH_SITE).is_some_and(|site| site != "same-origin");
    !is_foreign && !OF_PROXIES.iter().any(|name| headers.contains_key(name))
}

/// Whether the host is a name of this machine. A page whose name was made to resolve to this machine sends its own.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = authority.or(host) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost")
}

pub(super) fn refusal() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Forbidden",
        "without authentication only programs on the service's own machine may administer it, directly at localhost; \
         set AUTH",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str) -> Request<()> {
        Request::builder().header(header::HOST, host).body(()).unwrap()
    }

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        for host in [
            "localhost",
            "LocalHost:8000",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]",
            "[::1]:8000",
        ] {
            assert!(names_this_machine(&request(host)), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "10.0.0.1:8000",
            "[::2]",
            "[",
            "0.0.0.0",
        ] {
            assert!(!names_this_machine(&request(host)), "{host}");
        }
        assert!(!names_this_machine(&Request::new(())));
    }

    #[test]
    fn a_proxy_or_another_site_is_not_local() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert!(is_direct(&HeaderMap::new()));
        assert!(is_direct(&headers("sec-fetch-site", "same-origin")));
        for site in ["cross-site", "same-site", "none"] {
            assert!(!is_direct(&headers("sec-fetch-site", site)), "{site}");
        }
        for name in ["forwarded", "via", "x-forwarded-for", "x-real-ip"] {
            assert!(!is_direct(&headers(name, "x")), "{name}");
        }
    }
}
