//! What the services read and answer, in JSON. Invariant: the same for all of them, field by field what cenote answers.

use std::fmt::Display;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// A write, as it comes in.
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

/// What stands under a key; also what the cache holds.
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

/// Which users to list.
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

/// Why there is no answer.
pub(crate) enum Failure {
    /// Nothing is there: 404.
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
