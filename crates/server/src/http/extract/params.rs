//! Parameters in the path and in the query, as checked values.
//!
//! Invariant: a key in a path is exactly what the client encoded. Nothing is normalised, and percent-decoding happens
//! once.

use std::borrow::Cow;
use std::error::Error;
use std::str::FromStr;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use garde::Validate;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::http::problem::Problem;
use crate::http::validation::{MAX_FIELDS, broken_rules, describe, expected_number, fields_problem};

/// The parameters in a route's path. Rejections: 400 (not UTF-8), 422 (names the parameter that is not valid).
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
        ErrorKind::ParseErrorAtKey { key, expected_type, .. } => (0, Some(key), expects(expected_type)),
        ErrorKind::ParseErrorAtIndex {
            index, expected_type, ..
        } => (index, None, expects(expected_type)),
        ErrorKind::ParseError { expected_type, .. } => (0, None, expects(expected_type)),
        ErrorKind::DeserializeError { key, .. } => (0, Some(key), "is not valid".into()),
        ErrorKind::Message(text) => (0, None, describe(&text).1),
        // All other kinds are mistakes in the signature of a handler.
        kind => return Problem::internal(kind),
    };
    let key = match key {
        Some(key) => key,
        None => match RawPathParams::from_request_parts(parts, &()).await {
            Ok(params) => params.iter().nth(index).map_or("", |(key, _)| key).to_owned(),
            Err(_) => String::new(),
        },
    };
    Problem::unprocessable().field(key, detail)
}

fn expects(kind: &'static str) -> Cow<'static, str> {
    expected_number(kind).map_or_else(|| format!("must be of type {kind}").into(), Cow::Borrowed)
}

fn not_utf8() -> Problem {
    Problem::bad_request("the path is not UTF-8 once percent-decoded")
}

/// The parameters of the query string, parsed and validated. Rejection: 422, which names every parameter that is not
/// valid.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let all = parts.uri.query().unwrap_or_default();
        let mut pairs: Vec<&str> = all.split('&').collect();
        let mut wrong = Vec::new();
        loop {
            let read = match &*pairs {
                _ if wrong.is_empty() => axum::extract::Query::try_from_uri(&parts.uri),
                pairs => axum::extract::Query::try_from_uri(&with_query(&pairs.join("&"))),
            };
            match read {
                Ok(axum::extract::Query(value)) => {
                    wrong.extend(broken_rules(&value));
                    return match wrong.is_empty() {
                        true => Ok(Self(value)),
                        false => Err(fields_problem(wrong)),
                    };
                }
                Err(rejection) => {
                    let (name, detail) = wrong_parameter(&rejection);
                    // serde stops at the first error: without this parameter it finds the next.
                    let before = pairs.len();
                    pairs.retain(|pair| name_of(pair) != name);
                    wrong.push((name, detail));
                    if pairs.len() == before || wrong.len() == MAX_FIELDS {
                        return Err(fields_problem(wrong));
                    }
                }
            }
        }
    }
}

fn with_query(query: &str) -> Uri {
    // Parameters taken from a valid URI make a valid URI.
    format!("/?{query}").parse().unwrap_or_default()
}

/// Returns the decoded name in `name=value`.
fn name_of(pair: &str) -> String {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&name).decode_utf8_lossy().into_owned()
}

fn wrong_parameter(rejection: &(dyn Error + 'static)) -> (String, Cow<'static, str>) {
    type Wrong = serde_path_to_error::Error<serde::de::value::Error>;
    let mut source = Some(rejection);
    while let Some(error) = source {
        if let Some(wrong) = error.downcast_ref::<Wrong>() {
            let path = wrong.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let (name, detail) = describe(&wrong.inner().to_string());
            return (name.unwrap_or(path), detail);
        }
        source = error.source();
    }
    (String::new(), "is not valid".into())
}

/// A whole number in decimal digits, with a minus sign if `T` has numbers below 0. Rust's own parser, and with it serde,
/// also accepts a plus sign, which stands for a blank in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<T>(pub T);

impl<'de, T: FromStr> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(D::Error::custom("invalid value, expected a whole number"));
        }
        let number = text.parse().map(Self);
        number.map_err(|_| {
            D::Error::custom("invalid value, expected a whole number that is neither too small nor too large")
        })
    }
}

/// Deserializes a [`Number`] that may be left out: `#[serde(default, deserialize_with = "number")]`.
///
/// # Errors
///
/// If the value is not a number.
pub fn number<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Number::deserialize(deserializer).map(|Number(number)| Some(number))
}

/// The part of the path behind the literal start of a route such as `/read/{*key}`, decoded: any UTF-8, with slashes,
/// dots and spaces as they are. On a route that is only the start (`/read/`) it is empty.
///
/// Not for routers nested under a prefix. Rejections: 400 (not UTF-8), 422 (has a NUL character).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(route) = parts.extensions.get::<MatchedPath>() else {
            return Err(Problem::internal("`Key` was extracted outside a route"));
        };
        let start = route.as_str().find('{').unwrap_or(route.as_str().len());
        let raw = parts.uri.path().get(start..).unwrap_or_default();
        Ok(Self(decode_key(raw)?.into_owned()))
    }
}

/// Decodes the key in a part of a path.
///
/// # Errors
///
/// 400 if the decoded key is not UTF-8, 422 if it has a NUL character.
pub fn decode_key(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let key = percent_decode_str(raw).decode_utf8().map_err(|_| not_utf8())?;
    match key.as_bytes().contains(&0) {
        true => Err(Problem::unprocessable().field("key", "must not contain the NUL character")),
        false => Ok(key),
    }
}
