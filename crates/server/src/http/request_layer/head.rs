//! Checks the head of every request, before its route is known.
//!
//! Invariant: a request that passes has one target, one host and one framing, which this service and every proxy on the
//! way read alike. Otherwise a request could be smuggled past a proxy.

use axum::http::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use hyper::body::Body;

use crate::http::problem::Problem;

/// Most bytes of path and query. The longest key, fully percent-encoded, takes less than half.
pub(super) const LONGEST_TARGET: usize = 16 * 1024;

/// Checks host, target and framing.
///
/// # Errors
///
/// 400 for a wrong `Host`, target or framing; 414 for a long target; 431 for more than `max_headers` headers; 501 for a
/// transfer coding other than `chunked`.
pub(super) fn check<B: Body>(request: &Request<B>, max_headers: usize) -> Result<(), Problem> {
    let (uri, headers) = (request.uri(), request.headers());
    if headers.len() > max_headers {
        let detail = format!("the request has more than {max_headers} headers");
        return Err(Problem::head_too_large(detail));
    }
    check_host(uri, headers, request.version())?;
    check_target(request.method(), uri)?;
    match request.body().is_end_stream() {
        true => Ok(()),
        false => check_framing(headers),
    }
}

/// RFC 9112, section 3.2, and RFC 9113, section 8.3.1.
fn check_host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match version {
            Version::HTTP_11 => Err(Problem::bad_request("the header Host is missing")),
            _ => Ok(()),
        };
    };
    if hosts.next().is_some() {
        return Err(Problem::bad_request("the header Host is given more than once"));
    }
    if !is_host(host.as_bytes()) {
        return Err(Problem::bad_request(
            "the header Host is not a host, with or without a port",
        ));
    }
    let differs = |authority: &Authority| {
        let authority = authority.as_str().as_bytes();
        !authority.eq_ignore_ascii_case(host.as_bytes())
    };
    // On HTTP/1.1 the authority in the target wins over `Host`.
    match uri.authority() {
        Some(authority) if version == Version::HTTP_2 && differs(authority) => {
            Err(Problem::bad_request("the header Host differs from the authority"))
        }
        _ => Ok(()),
    }
}

fn check_target(method: &Method, uri: &Uri) -> Result<(), Problem> {
    // RFC 9112, section 3.2: only these two methods have targets that are not paths.
    let is_target = match *method {
        Method::CONNECT => true,
        Method::OPTIONS if uri.path() == "*" => true,
        _ => uri.path().starts_with('/'),
    };
    if !is_target {
        return Err(Problem::bad_request("the request target is not a path"));
    }
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > LONGEST_TARGET {
        return Err(Problem::uri_too_long(LONGEST_TARGET));
    }
    // RFC 9110, section 4.2.4: a user name in a target mostly serves to mislead.
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(Problem::bad_request("the request target must not contain a user name"))
        }
        _ => Ok(()),
    }
}

/// RFC 9112, sections 6.1 and 7. hyper ensures that `chunked` comes last and that lengths agree. It does not decode other
/// codings, so two programs could disagree on where the body ends.
fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let problem = if codings.next().is_some() {
        Problem::bad_request("the header Transfer-Encoding is given more than once")
    } else if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        let detail = "the only supported transfer coding is chunked";
        Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-implemented",
            "Not implemented",
            detail,
        )
    } else {
        return Ok(());
    };
    Err(problem.header(CONNECTION, HeaderValue::from_static("close")))
}

/// Whether the value is `uri-host [ ":" port ]` of RFC 9110, section 7.2. Host and port may be empty.
fn is_host(value: &[u8]) -> bool {
    let (host, rest) = match value.first() {
        Some(b'[') => match value.iter().position(|byte| *byte == b']') {
            Some(end) => (&value[1..end], &value[end + 1..]),
            None => return false,
        },
        _ => {
            let end = value.iter().position(|byte| *byte == b':');
            value.split_at(end.unwrap_or(value.len()))
        }
    };
    let is_port = match rest {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port
        && match value.first() {
            Some(b'[') => is_address(host),
            _ => is_name(host),
        }
}

/// Whether the text between brackets is an IPv6 address, or an `IPvFuture` of RFC 3986.
fn is_address(host: &[u8]) -> bool {
    match host {
        [b'v' | b'V', rest @ ..] => {
            let dot = rest.iter().position(|byte| *byte == b'.');
            dot.is_some_and(|dot| {
                let (version, address) = rest.split_at(dot);
                let plain = |byte: &u8| NAME[usize::from(*byte)] || *byte == b':';
                !version.is_empty()
                    && version.iter().all(u8::is_ascii_hexdigit)
                    && address.len() > 1
                    && address.iter().all(plain)
            })
        }
        _ => str::from_utf8(host).is_ok_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
    }
}

/// Whether the host is a registered name. IPv4 addresses use the same characters.
fn is_name(host: &[u8]) -> bool {
    let mut rest = host;
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest = after,
            [byte, after @ ..] if NAME[usize::from(*byte)] => rest = after,
            _ => return false,
        }
    }
}

/// The characters `unreserved` and `sub-delims` of RFC 3986.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let is_plain = (byte as u8).is_ascii_alphanumeric();
        table[byte] = is_plain
            || matches!(
                byte as u8,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use axum::http::uri::Authority;
    use proptest::prelude::*;

    use super::is_host;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "",
            "x",
            "example.org",
            "example.org:",
            "example.org:80",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "[v1.a:b]",
            "my_service",
            "ex%41mple",
            ":80",
            "a,b",
            "xn--nxasmq6b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "a/b", "user@x", "x:y", "x:80:80", "x:123456", "[::1", "::1", "[x]", "[::1]x", "[v.a]", "[v1.]",
            "a%4", "a%zz", "a?b", "a#b", "http://x", "\u{e9}", "a\"b", "a\\b", "x:-1", "[]",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    proptest! {
        /// The `http` crate accepts more hosts, but whatever it refuses is not a host.
        #[test]
        fn an_invalid_authority_is_not_a_host(host in "[ -~]{1,12}") {
            if is_host(host.as_bytes()) && !host.contains('%') && !host.starts_with(':') && !host.starts_with("[v") {
                prop_assert!(host.parse::<Authority>().is_ok(), "{host}");
            }
        }
    }
}
