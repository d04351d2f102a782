//! Errors as callers see them: RFC 9457 `application/problem+json`.
//!
//! Invariant: what a caller reads was written for callers. Internals go to [`Problem::cause`], which reaches
//! the log and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::service::Whole;

/// One error answer. Small to pass around; everything in it is made only when something went wrong.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    instance: Option<String>,
    errors: Vec<FieldError>,
    members: Vec<(&'static str, Member)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Cause>,
}

#[derive(Debug, Serialize)]
struct FieldError {
    field: String,
    detail: Cow<'static, str>,
}

/// The value of an extension member.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Member {
    /// A count, or an amount whose unit is in the member's name.
    Number(u64),
    /// A text for callers.
    Text(Cow<'static, str>),
}

/// Why an answer is a 5xx, in the response's extensions, for the log only. Made a text when it is logged: in a flood of
/// refusals few are.
#[derive(Clone)]
pub struct Cause(Arc<dyn fmt::Display + Send + Sync>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cause").field(&self.to_string()).finish()
    }
}

impl Problem {
    /// A problem of the kind `urn:cenote:problem:{slug}`. `title` belongs to the kind, `detail` to the case.
    #[must_use]
    pub fn new(
        status: StatusCode,
        slug: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            slug,
            title,
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
            members: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// Names the occurrence, as a URI reference.
    #[must_use]
    pub fn instance(mut self, uri: impl Into<String>) -> Self {
        self.0.instance = Some(uri.into());
        self
    }

    /// Adds an extension member. `name` must not be one of RFC 9457, nor `errors`.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: Member) -> Self {
        self.0.members.push((name, value));
        self
    }

    /// Adds `{field, detail}` to the member `errors`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.errors.push(FieldError {
            field: field.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds a header to the answer, in place of one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says in `Retry-After` after how many seconds to try again.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Keeps the internal reason for the log.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Cause(Arc::new(cause)));
        self
    }

    /// The status it will be answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 400: the body is not JSON.
    #[must_use]
    pub fn malformed_json(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON", detail)
    }

    /// 401: who asks is not known. `WWW-Authenticate: Bearer` is added.
    #[must_use]
    pub fn unauthorized() -> Self {
        let detail = "this needs a valid bearer token";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authenticated", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: who asks may not.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the router adds `Allow`.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = "the header Allow lists the methods of this resource";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            detail,
        )
    }

    /// 408: the body did not arrive in time.
    #[must_use]
    pub fn request_timeout() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "Request timeout",
            detail,
        )
    }

    /// 409.
    #[must_use]
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 412: what the request was made conditional on does not hold.
    #[must_use]
    pub fn precondition_failed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition-failed",
            "Precondition failed",
            detail,
        )
    }

    /// 413: the body is longer than `limit` bytes.
    #[must_use]
    pub fn payload_too_large(limit: u64) -> Self {
        let detail = format!("the body is longer than {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload-too-large",
            "Payload too large",
            detail,
        )
        .member("limit_bytes", Member::Number(limit))
    }

    /// 415: the body is not said to be what is understood.
    #[must_use]
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
    }

    /// 422: add the fields with [`Problem::field`].
    #[must_use]
    pub fn unprocessable() -> Self {
        let detail = "some fields are missing or not valid; see errors";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation",
            "Validation failed",
            detail,
        )
    }

    /// 429: over a rate.
    #[must_use]
    pub fn too_many_requests(retry_after: u32) -> Self {
        let detail = "the rate limit is reached";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            detail,
        )
        .retry_after(retry_after)
    }

    /// 500: our fault. Callers learn nothing of `cause`.
    #[must_use]
    pub fn internal(cause: impl fmt::Display + Send + Sync + 'static) -> Self {
        let detail = "the server failed; the log has the reason under the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail).cause(cause)
    }

    /// 503 of the kind `slug`: it may work after `retry_after` seconds.
    #[must_use]
    pub fn unavailable(slug: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, "Service unavailable", detail).retry_after(retry_after)
    }

    /// 504: what was asked ran into its timeout.
    #[must_use]
    pub fn gateway_timeout(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "command-timeout",
            "Command timeout",
            detail,
        )
    }
}

struct Urn(&'static str);

impl fmt::Display for Urn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "urn:cenote:problem:{}", self.0)
    }
}

impl Serialize for Urn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = &*self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &Urn(parts.slug))?;
        map.serialize_entry("title", parts.title)?;
        map.serialize_entry("status", &parts.status.as_u16())?;
        map.serialize_entry("detail", &parts.detail)?;
        if let Some(instance) = &parts.instance {
            map.serialize_entry("instance", instance)?;
        }
        if !parts.errors.is_empty() {
            map.serialize_entry("errors", &parts.errors)?;
        }
        for (name, value) in &parts.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Problem {
    /// The answer.
    #[must_use]
    pub fn into_whole(mut self) -> Whole {
        // Maps with text keys do not fail to serialise; an empty body would still have its status.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut whole = Whole::new(Full::from(body));
        *whole.status_mut() = self.0.status;
        let headers = whole.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.0.headers.drain(..) {
            headers.insert(name, value);
        }
        if let Some(cause) = self.0.cause.take() {
            whole.extensions_mut().insert(cause);
        }
        whole
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into_whole().into_response()
    }
}
