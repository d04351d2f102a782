//! Administration by pages in a browser.
//!
//! Invariant: no page of another site changes anything, whatever credentials its user has; and with `DASHBOARD_ACTIONS=off`
//! no page does. Programs are not concerned: they send none of the headers by which browsers tell pages apart.

use axum::http::{Method, Request, StatusCode};

use crate::http::{Problem, is_cross_site, is_of_page};

/// Refuses a call of administration that a browser sends for a page, unless the page may send it. `may_act`: the pages of
/// this service may administer it.
pub(super) fn check<B>(request: &Request<B>, may_act: bool) -> Result<(), Problem> {
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers();
    if !is_change || !is_of_page(headers) {
        return Ok(());
    }
    if is_cross_site(request.uri(), headers) {
        return Err(forbidden("a page of another site may not administer the service"));
    }
    match may_act {
        true => Ok(()),
        false => Err(forbidden(
            "DASHBOARD_ACTIONS=off: pages in a browser may not administer the service",
        )),
    }
}

fn forbidden(detail: &'static str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: Method, site: Option<&str>, may_act: bool) -> bool {
        let mut request = Request::builder()
            .method(method)
            .uri("/admin/pause")
            .header("host", "localhost");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        check(&request.body(()).unwrap(), may_act).is_err()
    }

    #[test]
    fn only_pages_of_this_service_administer_it_and_only_if_they_may() {
        assert!(!is_refused(Method::POST, Some("same-origin"), true));
        assert!(is_refused(Method::POST, Some("same-origin"), false));
        for site in ["cross-site", "same-site"] {
            assert!(is_refused(Method::POST, Some(site), true), "{site}");
            assert!(!is_refused(Method::GET, Some(site), false), "nothing changes");
        }
        for may_act in [true, false] {
            assert!(!is_refused(Method::POST, None, may_act), "a program");
        }
    }
}
