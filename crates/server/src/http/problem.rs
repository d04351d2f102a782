//! Error responses: `application/problem+json` of RFC 9457.
//!
//! Invariant: every text in the response was written for callers. Internals go into [`Problem::cause`], which reaches only
//! the log.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::body::FullResponse;

/// An error response. It is one pointer, so that a `Result<_, Problem>` stays small.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
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

/// The value of an extension member (RFC 9457, section 3.2).
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Member {
    /// A count, or a quantity whose unit is in the member's name.
    Number(u64),
    /// A text written for callers.
    Text(Cow<'static, str>),
    /// Several of them.
    Texts(Vec<Cow<'static, str>>),
}

/// Why a response is a 5xx, or a refusal that does not tell the client why. It travels in the response's extensions to the log, and is formatted only if it is logged: in
/// a flood of failures most are not.
#[derive(Clone)]
pub struct Cause {
    slug: &'static str,
    text: Arc<dyn fmt::Display + Send + Sync>,
}

impl Cause {
    /// The kind of the problem, as in its type.
    pub fn slug(&self) -> &'static str {
        self.slug
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cause").field(&self.to_string()).finish()
    }
}

impl Problem {
    /// Creates a problem of type `urn:cenote:problem:{slug}`. `title` is the same for all problems of the type; `detail`
    /// is about this one.
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
            errors: Vec::new(),
            members: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// Adds an extension member. `name` must be neither `errors` nor a member defined by RFC 9457.
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

    /// Sets a header of the response, in place of an earlier one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Sets the internal reason, for the log only.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Cause {
            slug: self.0.slug,
            text: Arc::new(cause),
        });
        self
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

    /// 404: there is nothing at this path, or under this key or number.
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

    /// 409: the request conflicts with what is stored.
    #[must_use]
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 412: the condition of the request does not hold.
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

    /// 414: path and query are longer than `limit` bytes.
    #[must_use]
    pub fn uri_too_long(limit: usize) -> Self {
        let detail = format!("the path and query are longer than {limit} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "uri-too-long", "URI too long", detail)
    }

    /// 415: the headers say that the body is not JSON.
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

    /// 431: the head of the request is too long or has too many headers.
    #[must_use]
    pub fn head_too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head-too-large",
            "Request head too large",
            detail,
        )
    }

    /// 500: the service failed. `cause` goes only to the log.
    #[must_use]
    pub fn internal(cause: impl fmt::Display + Send + Sync + 'static) -> Self {
        let detail = "the server failed; the log has the reason under the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail).cause(cause)
    }

    /// 503 of type `slug`: a retry may succeed after `retry_after` seconds.
    #[must_use]
    pub fn unavailable(slug: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, "Service unavailable", detail).retry_after(retry_after)
    }

    /// 504: the database reached its timeout.
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

/// Formats a slug as the problem's type.
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
    /// Converts the problem into its response.
    #[must_use]
    pub fn into_full_response(mut self) -> FullResponse {
        // Cannot fail: all keys are texts. An empty body would still have its status.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut whole = FullResponse::new(Full::from(body));
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
        self.into_full_response().into_response()
    }
}
