//! JSON bodies into checked values.
//!
//! Invariant: every body gives a value or a 4xx [`Problem`] that says what is wrong and where, and repeats
//! nothing of the body but names of fields, shortened.

use std::error::Error;
use std::fmt::Display;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use garde::Validate;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::body::BodyError;
use super::explain::{self, broken_rules, is_object, not_an_object};
use super::media;
use super::problem::Problem;

/// A JSON object, read whole, parsed and validated. The bounds on its bytes and time are the server's.
///
/// Rejections: 415 (said to be something else), 413, 408, 400 (not JSON, with line and column), 422 (with every
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
        media::expect_json(&parts.uri, &parts.headers)?;
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

fn parse<T>(body: &[u8]) -> Result<T, Problem>
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    match serde_json::from_slice(body) {
        Ok(_) if !is_object(body) => Err(not_an_object()),
        Ok(value) => Ok(value),
        Err(error) => Err(explain::body::<T>(body, &error)),
    }
}

/// Asks the value's own rules.
fn check<T: Validate<Context = ()>>(value: &T) -> Result<(), Problem> {
    let broken = broken_rules(value);
    match broken.is_empty() {
        true => Ok(()),
        false => Err(explain::problem(broken)),
    }
}

/// A garde rule, `#[garde(custom(characters(1, 200)))]`: the number of characters of the text is in this range.
pub fn characters(min: usize, max: usize) -> impl FnOnce(&str, &()) -> garde::Result {
    move |text, ()| match (min..=max).contains(&text.chars().count()) {
        true => Ok(()),
        false => Err(has("characters", min, max)),
    }
}

/// A garde rule, `#[garde(custom(entries(1, 1000)))]`: the number of entries of the list is in this range.
pub fn entries<T>(min: usize, max: usize) -> impl FnOnce(&[T], &()) -> garde::Result {
    move |list, ()| match (min..=max).contains(&list.len()) {
        true => Ok(()),
        false => Err(has("entries", min, max)),
    }
}

/// A garde rule, `#[garde(custom(between(1, 1000)))]`: the number is one of these.
pub fn between<T: PartialOrd + Display>(min: T, max: T) -> impl FnOnce(&T, &()) -> garde::Result {
    move |number, ()| match (&min..=&max).contains(&number) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("must be {min} to {max}"))),
    }
}

fn has(what: &str, min: usize, max: usize) -> garde::Error {
    garde::Error::new(match min {
        0 => format!("must have at most {max} {what}"),
        _ => format!("must have {min} to {max} {what}"),
    })
}
