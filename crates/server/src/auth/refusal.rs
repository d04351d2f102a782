//! A refused request, and its response. Invariant: the response does not tell a wrong key from an expired one, so that
//! nobody learns which keys exist.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};

use super::{
    outcome::{Method, Outcome},
    scopes::Scope,
};
use crate::http::{Member, Problem};

/// Seconds until a retry may succeed where the cause passes by itself.
const RETRY_AFTER: u32 = 1;

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    method: Method,
    outcome: Outcome,
}

impl Refusal {
    pub(super) const fn new(method: Method, outcome: Outcome) -> Self {
        Self { method, outcome }
    }

    /// What the caller showed.
    pub(crate) const fn method(self) -> Method {
        self.method
    }

    /// The cause, for the log only.
    pub(crate) const fn outcome(self) -> Outcome {
        self.outcome
    }

    /// Whether the caller showed something that is not valid, which a limit of failures counts. A key that could not be
    /// looked up, because of a flood of others or an outage, may be valid.
    pub(crate) const fn is_failure(self) -> bool {
        let is_innocent = matches!(
            self.outcome,
            Outcome::Missing | Outcome::Scope | Outcome::Throttled | Outcome::Unavailable
        );
        !is_innocent
    }

    /// The response, with the cause for the log. That a request shows nothing is not worth a line.
    pub(crate) fn problem(self) -> Problem {
        match self.outcome {
            Outcome::Missing => self.response(),
            _ => self.response().cause(self),
        }
    }

    fn response(self) -> Problem {
        if self.method == Method::Certificate {
            return unauthorized(
                "the certificate of this client names nobody: it has neither a subject nor an alternative name",
                HeaderValue::from_static("Bearer realm=\"cenote\""),
            );
        }
        match self.outcome {
            Outcome::Missing => unauthorized(
                "this needs an API key or a token, as in Authorization: Bearer cnk_…",
                HeaderValue::from_static("Bearer realm=\"cenote\""),
            ),
            Outcome::Ambiguous => {
                Problem::bad_request("send one key or token: either Authorization or X-API-Key, and only once")
            }
            Outcome::Throttled => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too many requests",
                "too many unknown API keys are being tried; a key that was used lately is still accepted",
            )
            .retry_after(RETRY_AFTER),
            Outcome::Unavailable => {
                let detail = "the key or token cannot be checked at the moment";
                Problem::unavailable("auth-unavailable", detail, RETRY_AFTER)
            }
            _ => unauthorized(
                "the API key or token is not valid",
                HeaderValue::from_static("Bearer realm=\"cenote\", error=\"invalid_token\""),
            ),
        }
    }
}

/// The cause, for the log.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.method.name(), self.outcome.name())
    }
}

fn unauthorized(detail: &'static str, challenge: HeaderValue) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail).header(WWW_AUTHENTICATE, challenge)
}

/// The response to a caller who lacks a scope.
pub(super) fn forbidden(scope: Scope) -> Problem {
    let name = scope.name();
    let challenge = match scope {
        Scope::Read => "Bearer realm=\"cenote\", error=\"insufficient_scope\", scope=\"read\"",
        Scope::Write => "Bearer realm=\"cenote\", error=\"insufficient_scope\", scope=\"write\"",
        Scope::Admin => "Bearer realm=\"cenote\", error=\"insufficient_scope\", scope=\"admin\"",
        Scope::Metrics => "Bearer realm=\"cenote\", error=\"insufficient_scope\", scope=\"metrics\"",
    };
    let detail = format!("this needs the scope {name}, which the caller does not have");
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
        .member("scope", Member::Text(name.into()))
        .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_invalid_credentials_get_the_same_response() {
        let response = |outcome| {
            let response = Refusal::new(Method::ApiKey, outcome).problem().into_full_response();
            (response.status(), response.headers().clone())
        };
        let invalid = [
            Outcome::Malformed,
            Outcome::Checksum,
            Outcome::Unknown,
            Outcome::Revoked,
            Outcome::Expired,
            Outcome::NotYet,
            Outcome::Issuer,
            Outcome::Audience,
            Outcome::Algorithm,
            Outcome::Signature,
            Outcome::Kid,
        ];
        for outcome in invalid {
            assert_eq!(response(outcome), response(Outcome::Unknown), "{outcome:?}");
        }
        let (status, headers) = response(Outcome::Unknown);
        assert_eq!(status, 401);
        assert_eq!(
            headers[WWW_AUTHENTICATE],
            "Bearer realm=\"cenote\", error=\"invalid_token\""
        );
        assert_eq!(response(Outcome::Missing).0, 401);
        assert_eq!(response(Outcome::Ambiguous).0, 400);
        assert_eq!(response(Outcome::Throttled).0, 429);
        assert_eq!(response(Outcome::Unavailable).0, 503);
    }

    #[test]
    fn a_key_that_was_not_looked_up_is_no_failure() {
        let is_failure = |outcome| Refusal::new(Method::ApiKey, outcome).is_failure();
        assert!(is_failure(Outcome::Unknown) && is_failure(Outcome::Checksum));
        assert!(!is_failure(Outcome::Throttled) && !is_failure(Outcome::Unavailable));
    }

    #[test]
    fn a_missing_scope_is_named() {
        for scope in Scope::ALL {
            let response = forbidden(scope).into_full_response();
            assert_eq!(response.status(), 403);
            let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
            assert!(
                challenge.ends_with(&format!("scope=\"{}\"", scope.name())),
                "{challenge}"
            );
        }
    }
}
