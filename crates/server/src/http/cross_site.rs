//! Requests that browsers send for pages. Invariant: a request without the headers of browsers is taken for one of a program.

use axum::http::Uri;
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

/// A header that browsers add to each request.
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser sends this request for a page. Old browsers have no `Sec-Fetch-Site`; with requests that change
/// something they send `Origin`.
pub(crate) fn is_of_page(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_FETCH_SITE) || headers.contains_key(ORIGIN)
}

/// Whether a browser sends this request for a page of another site. Old browsers have no `Sec-Fetch-Site`; they send
/// `Origin`.
pub(crate) fn is_cross_site(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let own = match uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => headers.get(HOST).map(HeaderValue::as_bytes),
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.any(|origin| {
        let origin = origin.as_bytes();
        let host = origin
            .strip_prefix(b"http://")
            .or_else(|| origin.strip_prefix(b"https://"));
        host.is_none() || host != own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request with this header is that of a page, and of one of another site.
    fn judged(name: &'static str, value: &'static str) -> (bool, bool) {
        let headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("cenote.example:8000")),
            (HeaderName::from_static(name), HeaderValue::from_static(value)),
        ]);
        let uri = Uri::from_static("/admin/pause");
        (is_of_page(&headers), is_cross_site(&uri, &headers))
    }

    #[test]
    fn a_page_of_this_service_is_told_from_another_one() {
        assert_eq!(judged("sec-fetch-site", "same-origin"), (true, false));
        assert_eq!(judged("sec-fetch-site", "none"), (true, false));
        assert_eq!(judged("sec-fetch-site", "same-site"), (true, true));
        assert_eq!(judged("sec-fetch-site", "cross-site"), (true, true));
        assert_eq!(judged("origin", "https://cenote.example:8000"), (true, false));
        assert_eq!(judged("origin", "https://cenote.example"), (true, true));
        assert_eq!(judged("origin", "null"), (true, true));
        assert_eq!(judged("user-agent", "curl/8"), (false, false));
    }
}
