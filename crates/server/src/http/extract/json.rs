//! JSON bodies into checked values.
//!
//! Invariant: every body gives a value, or a 4xx [`Problem`] that says what is wrong and where. The problem repeats
//! nothing of the body but the names of its fields, shortened.

use std::error::Error;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use garde::Validate;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::media_type;
use crate::http::body::BodyError;
use crate::http::problem::Problem;
use crate::http::validation::{broken_rules, explain_json, fields_problem, is_object, not_an_object};

/// A JSON object: read to its end, parsed and validated. The transport bounds its bytes and its time.
///
/// Rejections:
///
/// | Status | When |
/// |---|---|
/// | 400 | the body is not JSON; the problem has line and column |
/// | 408 | the body did not arrive in time |
/// | 413 | the body is too long |
/// | 415 | the headers say that the body is something else |
/// | 422 | fields are missing or not valid; the problem names each |
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
    /// Reads the body of a request, with or without axum.
    ///
    /// # Errors
    ///
    /// The rejections listed at [`Json`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the part of the body that was read is lost.
    pub async fn read<B>(request: axum::http::Request<B>) -> Result<Self, Problem>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
    {
        let (parts, body) = request.into_parts();
        media_type::expect_json(&parts.uri, &parts.headers)?;
        let value = parse(&collect(body).await?)?;
        let broken = broken_rules(&value);
        match broken.is_empty() {
            true => Ok(Self(value)),
            false => Err(fields_problem(broken)),
        }
    }
}

/// Reads a body to its end. A body that arrives in one piece is not copied.
async fn collect<B>(mut body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are discarded.
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

/// axum wraps the errors of a body, so the [`BodyError`] is among the sources.
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

fn parse<T>(body: &[u8]) -> Result<T, Problem>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    match serde_json::from_slice(body) {
        Ok(_) if !is_object(body) => Err(not_an_object()),
        Ok(value) => Ok(value),
        Err(error) => Err(explain_json::<T>(body, &error)),
    }
}
