//! The JSON bodies of requests and answers. Invariant: all services have the same ones, with the fields of cenote's.

use std::fmt::Display;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// The body of a write.
#[derive(Deserialize)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Serialize)]
pub(crate) struct Written {
    status: &'static str,
    key: String,
    version: i64,
}

impl Written {
    pub(crate) fn new(key: String, version: i64) -> Self {
        Self {
            status: "ok",
            key,
            version,
        }
    }
}

/// The value of a key, also as the cache stores it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) value: String,
    pub(crate) version: i64,
}

#[derive(Serialize)]
pub(crate) struct Read {
    key: String,
    #[serde(flatten)]
    value: Value,
    from_cache: bool,
}

impl Read {
    pub(crate) fn new(key: String, value: Value, from_cache: bool) -> Self {
        Self { key, value, from_cache }
    }
}

#[derive(Serialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
}

/// The query parameters of the list of users.
#[derive(Deserialize)]
pub(crate) struct Page {
    #[serde(default = "hundred")]
    pub(crate) limit: i64,
    #[serde(default)]
    pub(crate) after: i64,
}

fn hundred() -> i64 {
    100
}

/// Why a request failed.
pub(crate) enum Failure {
    /// Not found: 404.
    Absent,
    /// No connection in time: 503.
    Busy,
    /// Anything else: 500, and a line on standard error.
    Broken(String),
}

impl Failure {
    pub(crate) fn broken(error: impl Display) -> Self {
        Self::Broken(error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Absent => StatusCode::NOT_FOUND.into_response(),
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Self::Broken(error) => {
                eprintln!("{error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
