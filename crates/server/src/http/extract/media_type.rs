//! Checks the media type of a request before its body is read.
//!
//! Invariant: a body that passes is JSON in UTF-8 as far as the head can tell. No request passes that a page of another
//! site can make a browser send without asking (a CORS "simple request").

use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, Uri};

use crate::http::cross_site::is_cross_site;
use crate::http::problem::Problem;

/// Checks that the body is JSON.
///
/// # Errors
///
/// 415, with the media type that would be right.
pub(super) fn expect_json(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    expect_no_coding(headers)?;
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let first = types.next().map(HeaderValue::as_bytes);
    match first {
        _ if types.next().is_some() => Err(wrong_type("content-type is given more than once")),
        Some(b"application/json") => Ok(()),
        // Many programs send JSON without a content type. From a page of another site, though, a browser sends such a
        // request without asking this service first.
        None | Some(b"") if is_cross_site(uri, headers) => Err(wrong_type(
            "a request from another site must say content-type: application/json",
        )),
        None | Some(b"") => Ok(()),
        Some(content_type) => expect_json_type(content_type),
    }
}

/// Checks the media type and its parameters.
fn expect_json_type(content_type: &[u8]) -> Result<(), Problem> {
    // A value that is not UTF-8 is not a media type either.
    let content_type = std::str::from_utf8(content_type).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if !is_json(essence) {
        let form = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        return Err(wrong_type(match form {
            true => {
                "the content type must be application/json; curl -d sends a form's content type unless you add -H \
                 'content-type: application/json'"
            }
            false => "the content type must be application/json",
        }));
    }
    let mut charsets = parts
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'));
    match charsets.all(is_utf8) {
        true => Ok(()),
        false => Err(wrong_type(
            "the body must be UTF-8, and so must the charset of its content type",
        )),
    }
}

/// Whether the charset is UTF-8 or a subset of it.
fn is_utf8(charset: &str) -> bool {
    let names = ["utf-8", "utf8", "us-ascii"];
    names.iter().any(|name| name.eq_ignore_ascii_case(charset))
}

/// Whether the media type is `application/json` or `application/*+json`.
fn is_json(essence: &str) -> bool {
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

fn expect_no_coding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        true => Ok(()),
        false => Err(Problem::unsupported_media_type(
            "the body must not be compressed: no content-encoding is supported",
        )
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))),
    }
}

fn is_identity(codings: &HeaderValue) -> bool {
    let mut names = codings.as_bytes().split(|byte| *byte == b',');
    names.all(|name| {
        let name = name.trim_ascii();
        name.is_empty() || name.eq_ignore_ascii_case(b"identity")
    })
}

fn wrong_type(detail: &'static str) -> Problem {
    Problem::unsupported_media_type(detail).header(ACCEPT, HeaderValue::from_static("application/json"))
}
