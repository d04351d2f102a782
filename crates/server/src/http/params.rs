//! Paths and queries into values.
//!
//! Invariant: a key in a path is what the client encoded, whatever it holds; nothing is normalised, and
//! percent-decoding happens once.

use std::borrow::Cow;
use std::error::Error;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;
use garde::Validate;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::extract::{check, wrong_field};
use super::problem::Problem;

/// The variables of a route's path. A 422 names the one that does not fit, a 400 says that it is not UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(wrong_path(parts, rejection).await),
        }
    }
}

async fn wrong_path(parts: &mut Parts, rejection: PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::internal(rejection);
    };
    let (index, key, detail) = match error.into_kind() {
        ErrorKind::InvalidUtf8InPathParam { .. } => return not_utf8(),
        ErrorKind::ParseErrorAtKey {
            key, expected_type, ..
        } => (0, Some(key), expects(expected_type)),
        ErrorKind::ParseErrorAtIndex {
            index,
            expected_type,
            ..
        } => (index, None, expects(expected_type)),
        ErrorKind::ParseError { expected_type, .. } => (0, None, expects(expected_type)),
        ErrorKind::DeserializeError { key, .. } => (0, Some(key), "is not valid".into()),
        ErrorKind::Message(_) => (0, None, "is not valid".into()),
        // The rest are mistakes in a handler's signature.
        kind => return Problem::internal(kind),
    };
    let key = match key {
        Some(key) => key,
        None => match RawPathParams::from_request_parts(parts, &()).await {
            Ok(params) => params
                .iter()
                .nth(index)
                .map_or("", |(key, _)| key)
                .to_owned(),
            Err(_) => String::new(),
        },
    };
    Problem::unprocessable().field(key, detail)
}

fn expects(kind: &'static str) -> Cow<'static, str> {
    match kind {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "must be a whole number".into(),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
            "must be a whole number, not below 0".into()
        }
        "f32" | "f64" => "must be a number".into(),
        kind => format!("must be of type {kind}").into(),
    }
}

fn not_utf8() -> Problem {
    Problem::bad_request("the path is not UTF-8 once percent-decoded")
}

/// The parameters of the query string, parsed and validated. A 422 names those that do not fit.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => {
                check(&value)?;
                Ok(Self(value))
            }
            Err(rejection) => Err(wrong_query(&rejection)),
        }
    }
}

fn wrong_query(rejection: &(dyn Error + 'static)) -> Problem {
    type Wrong = serde_path_to_error::Error<serde::de::value::Error>;
    let mut source = Some(rejection);
    while let Some(error) = source {
        if let Some(wrong) = error.downcast_ref::<Wrong>() {
            let path = wrong.path().to_string();
            let path = if path == "." { "" } else { &path };
            return wrong_field(path, &wrong.inner().to_string());
        }
        source = error.source();
    }
    Problem::unprocessable()
}

/// What follows the literal start of a route such as `/read/{*key}`, decoded: any UTF-8, with slashes, dots
/// and spaces as they are. Also fits a route that is only the start (`/read/`), where it is empty.
///
/// Not for routers nested under a prefix. Rejections: 400 (not UTF-8), 422 (holds a NUL character).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(route) = parts.extensions.get::<MatchedPath>() else {
            return Err(Problem::internal("a key was asked for outside a route"));
        };
        let start = route.as_str().find('{').unwrap_or(route.as_str().len());
        let raw = parts.uri.path().get(start..).unwrap_or_default();
        Ok(Self(key_in(raw)?.into_owned()))
    }
}

/// The key that part of a path stands for, as [`Key`] has it.
///
/// # Errors
/// The same.
pub fn key_in(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let key = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| not_utf8())?;
    match key.as_bytes().contains(&0) {
        true => Err(Problem::unprocessable().field("key", "must not contain the NUL character")),
        false => Ok(key),
    }
}
