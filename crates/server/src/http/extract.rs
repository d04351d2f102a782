//! JSON bodies into checked values.
//!
//! Invariant: every body gives a value or a 4xx [`Problem`] that says what is wrong and where, and repeats
//! nothing of the body but names of fields, shortened.

use std::borrow::Cow;
use std::error::Error;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use garde::Validate;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::body::BodyError;
use super::problem::Problem;

/// Fields named in one answer.
const MOST_FIELDS: usize = 32;
/// Characters of a field's path that are repeated.
const LONGEST_PATH: usize = 128;

/// A JSON object, read whole, parsed and validated. The bounds on its bytes and time are the server's.
///
/// Rejections: 415 (not said to be JSON), 413, 408, 400 (not JSON, with line and column), 422 (with every
/// field that is wrong).
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        Self::read(request).await
    }
}

impl<T: DeserializeOwned + Validate<Context = ()>> Json<T> {
    /// Out of a request that did not come through axum.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Cancel safety
    /// What was read of the body is lost.
    pub async fn read<B>(request: axum::http::Request<B>) -> Result<Self, Problem>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
    {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            let nothing = body.is_end_stream() && !parts.headers.contains_key(CONTENT_TYPE);
            return Err(if nothing {
                empty()
            } else {
                Problem::unsupported_media_type()
            });
        }
        let value = parse(&whole(body).await?)?;
        check(&value)?;
        Ok(Self(value))
    }
}

/// A garde rule, `#[garde(custom(no_nul))]`: the text holds no NUL character, which PostgreSQL cannot store.
///
/// # Errors
/// When it does.
pub fn no_nul(text: &str, _context: &()) -> garde::Result {
    if text.as_bytes().contains(&0) {
        return Err(garde::Error::new("must not contain the NUL character"));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    if value == "application/json" {
        return true;
    }
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let Some((kind, subtype)) = essence.trim().split_once('/') else {
        return false;
    };
    let suffix = subtype
        .rsplit_once('+')
        .map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

/// The whole body. One that came in one piece is not copied.
async fn whole<B>(mut body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| unreadable(&error))?.into_data() else {
            continue;
        };
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn unreadable(error: &(dyn Error + 'static)) -> Problem {
    let mut source = Some(error);
    while let Some(error) = source {
        match error.downcast_ref::<BodyError>() {
            Some(BodyError::TooLarge { limit }) => return Problem::payload_too_large(*limit),
            Some(BodyError::TimedOut) => return Problem::request_timeout(),
            Some(BodyError::Broken(_)) => break,
            None => source = error.source(),
        }
    }
    Problem::bad_request("the body broke off")
}

fn empty() -> Problem {
    Problem::malformed_json("the body is empty")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        // serde also reads a struct from an array of its fields, which nobody means.
        Ok(_) if !is_object(body) => Err(not_an_object()),
        Ok(value) => Ok(value),
        Err(error) => Err(explain::<T>(body, &error)),
    }
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

fn not_an_object() -> Problem {
    Problem::unprocessable().field("", "must be an object")
}

#[cold]
fn explain<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Problem {
    if body.trim_ascii().is_empty() {
        return empty();
    }
    if error.classify() != Category::Data {
        let (line, column) = (error.line(), error.column());
        if body.starts_with(b"\xef\xbb\xbf") {
            return Problem::malformed_json("the body begins with a byte order mark; remove it");
        }
        // serde_json's own words for syntax repeat nothing of the text.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        return Problem::malformed_json(format!("line {line}, column {column}: {what}"));
    }
    if !is_object(body) {
        return not_an_object();
    }
    // The second run, only for the name of the field.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) else {
        return Problem::unprocessable();
    };
    let path = match error.path().to_string() {
        root if root == "." => String::new(),
        path => path,
    };
    wrong_field(&path, &error.inner().to_string())
}

/// A 422 from serde's words about the value at `path`. Those may repeat the value, so only what stands in
/// the type is taken from them.
pub(super) fn wrong_field(path: &str, words: &str) -> Problem {
    let named = |prefix: &str| Some(words.strip_prefix(prefix)?.split('`').next()?.to_owned());
    let (path, detail): (_, Cow<'static, str>) = if let Some(name) = named("missing field `") {
        (join(path, &name), "is required".into())
    } else if let Some(name) = named("duplicate field `") {
        (join(path, &name), "is given twice".into())
    } else if words.starts_with("unknown field ") {
        (path.to_owned(), "is not known".into())
    } else if words.starts_with("invalid ") || words.starts_with("unknown ") {
        let expected = words
            .rsplit_once(", expected ")
            .map_or("", |(_, after)| after);
        let expected = expected.split(" at line ").next().unwrap_or_default();
        match expected {
            "" => (path.to_owned(), "is not valid".into()),
            expected => (path.to_owned(), format!("must be {expected}").into()),
        }
    } else {
        (path.to_owned(), "is not valid".into())
    };
    Problem::unprocessable().field(shorten(path), detail)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn shorten(path: String) -> String {
    match path.char_indices().nth(LONGEST_PATH) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path,
    }
}

/// Asks the value's own rules.
pub(super) fn check<T: Validate<Context = ()>>(value: &T) -> Result<(), Problem> {
    let Err(report) = value.validate() else {
        return Ok(());
    };
    let wrong = report.into_inner();
    Err(wrong.into_iter().take(MOST_FIELDS).fold(
        Problem::unprocessable(),
        |problem, (path, error)| {
            problem.field(shorten(path.to_string()), error.message().to_owned())
        },
    ))
}
