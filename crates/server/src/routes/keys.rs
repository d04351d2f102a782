//! `/write` and `/read`.

use std::collections::{HashMap, HashSet};

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue, Request, StatusCode, Uri,
        header::{ETAG, IF_NONE_MATCH},
    },
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use cenote_cache::{
    fenced::Coherence,
    origin::Value,
    read::{Read, Source},
};

use super::{cache_status, json, json_of};
use crate::{
    app::App,
    http::{Json, Key, Problem, RequestBody, Whole, key_in, no_nul},
    openapi::ProblemBody,
    problems::{of_cached_write, of_delete, of_read},
};

/// Bytes of a key. PostgreSQL's index takes up to about 2,700.
const LONGEST_KEY: usize = 2048;
/// Bytes of an answer about a key beside the key and its value, about.
const ENVELOPE: usize = 72;
/// Keys in one request for many.
const MOST_KEYS: usize = 1000;

/// A value to be stored under a key.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct Write {
    /// 1 to 2048 bytes, no NUL.
    #[garde(custom(valid_key))]
    #[schema(example = "greeting")]
    key: String,
    /// No NUL.
    #[garde(custom(no_nul))]
    #[schema(example = "hello")]
    value: String,
}

/// What became of a write.
#[derive(Serialize, ToSchema)]
pub(super) struct Written<'a> {
    /// `ok`; or, with 202, `coherence-pending`: it is durable, but until Redis has been told, reads may miss it.
    #[schema(example = "ok")]
    status: &'static str,
    key: &'a str,
    /// Grows with every write of the key; each has its own.
    version: i64,
}

/// What stands under a key.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    version: i64,
    /// Whether it was served without asking the database.
    from_cache: bool,
    /// Only where it is true: the database failed, and this is what was known before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// Keys to be read.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct ReadMany {
    /// 1 to 1000 keys.
    #[garde(length(min = 1, max = MOST_KEYS), inner(custom(valid_key)))]
    keys: Vec<String>,
}

/// What stands under some keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Many {
    /// By key.
    found: HashMap<String, Found>,
    /// Keys without a value, in the order in which they were asked for.
    missing: Vec<String>,
    /// Only if there are any: the database failed, and of these keys this is what was known before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<String>,
}

/// What stands under one of many keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    value: String,
    version: i64,
    from_cache: bool,
}

fn valid_key(key: &str, context: &()) -> garde::Result {
    match key.len() {
        1..=LONGEST_KEY => no_nul(key, context),
        0 => Err(garde::Error::new("must not be empty")),
        _ => Err(garde::Error::new(format!(
            "must not be longer than {LONGEST_KEY} bytes"
        ))),
    }
}

fn check(key: &str) -> Result<(), Problem> {
    valid_key(key, &())
        .map_err(|error| Problem::unprocessable().field("key", error.message().to_owned()))
}

/// Stores a value. It is durable when this is answered, and every read that begins later sees it.
#[utoipa::path(post, path = "/write", tag = "keys", request_body = Write, responses(
    (status = 200, body = Written<'_>),
    (status = 202, body = Written<'_>, description = "It is durable, but Redis could not be told yet: reads may miss it for a while"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn write(app: &App, request: Request<RequestBody>) -> Result<Whole, Problem> {
    let Json(write) = Json::read(request).await?;
    store(app, write).await
}

pub(super) async fn write_by_router(
    State(app): State<App>,
    Json(write): Json<Write>,
) -> Result<Whole, Problem> {
    store(&app, write).await
}

async fn store(app: &App, Write { key, value }: Write) -> Result<Whole, Problem> {
    let written = app.store.write(key.clone(), value).await;
    let written = written.map_err(of_cached_write)?;
    Ok(match written.coherence {
        Coherence::Settled => {
            let body = Written {
                status: "ok",
                key: &key,
                version: written.version,
            };
            json_of(ENVELOPE + key.len(), &body)
        }
        Coherence::Pending => pending(&key, written.version),
    })
}

/// Committed, but not yet seen by every read.
fn pending(key: &str, version: i64) -> Whole {
    let body = Written {
        status: "coherence-pending",
        key,
        version,
    };
    let mut whole = json(&body);
    *whole.status_mut() = StatusCode::ACCEPTED;
    whole
}

/// Reads a value.
#[utoipa::path(get, path = "/read/{key}", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded; slashes may stand as they are"),
    ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer"),
), responses(
    (status = 200, body = Entry<'_>, headers(
        ("ETag" = String, description = "The version"),
        ("Cache-Status" = String, description = "RFC 9211: `hit` or `fwd=miss`; `detail` has the source \
            (`near`, `shared` or `database`), the mode, and `stale` for what was known before the database failed"),
        ("Age" = u64, description = "How far behind it may be, in seconds; none if nothing bounds that"),
    )),
    (status = 304, description = "It has not changed"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn read(app: &App, raw_key: &str, headers: &HeaderMap) -> Result<Whole, Problem> {
    let key = &*key_in(raw_key)?;
    check(key)?;
    let read = app.store.read(key).await.map_err(of_read)?;
    let mut whole = answer(key, &read, headers).unwrap_or_else(Problem::into_whole);
    cache_status::add(whole.headers_mut(), app.cache_mode, &read);
    Ok(whole)
}

pub(super) async fn read_by_router(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Whole, Problem> {
    let key = uri.path().strip_prefix("/read/").unwrap_or_default();
    read(&app, key, &headers).await
}

fn answer(key: &str, read: &Read, headers: &HeaderMap) -> Result<Whole, Problem> {
    let Some(found) = &read.value else {
        return Err(Problem::not_found("there is no value under this key"));
    };
    let tag = entity_tag(found.version);
    let mut whole = if is_known(headers, &tag) {
        let mut unchanged = Whole::default();
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let body = Entry {
            key,
            value: text(found)?,
            version: found.version,
            from_cache: is_cached(read),
            stale: read.stale,
        };
        json_of(ENVELOPE + key.len() + body.value.len(), &body)
    };
    whole.headers_mut().insert(ETAG, tag);
    Ok(whole)
}

fn is_cached(read: &Read) -> bool {
    read.source != Source::Database
}

/// What the database holds is text, so whatever else comes from a cache was put there by somebody else.
fn text(value: &Value) -> Result<&str, Problem> {
    std::str::from_utf8(&value.bytes).map_err(Problem::internal)
}

/// A version never comes twice for one key, so it is a strong entity tag.
fn entity_tag(version: i64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(version).as_bytes();
    // An i64 has at most 20 characters.
    let mut tag = [b'"'; 22];
    tag[1..=digits.len()].copy_from_slice(digits);
    // Digits between quotes always make a header value.
    HeaderValue::from_bytes(&tag[..digits.len() + 2])
        .unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// Whether the caller has this version already: `If-None-Match`.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == "*" || known == tag)
}

/// Reads many values in one round trip.
#[utoipa::path(post, path = "/read", tag = "keys", request_body = ReadMany, responses(
    (status = 200, body = Many, headers(
        ("Cache-Status" = String, description = "RFC 9211: `hit` if the database was asked for none, otherwise `fwd=miss`; \
            `detail` has how many came from which source, and the mode"),
        ("Age" = u64, description = "How far behind any of them may be, in seconds; none if nothing bounds that"),
    )),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn read_many(
    State(app): State<App>,
    Json(ReadMany { keys: mut wanted }): Json<ReadMany>,
) -> Result<Whole, Problem> {
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted.retain(|key| seen.insert(key.clone()));
    let keys: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let reads = app.store.read_many(&keys).await.map_err(of_read)?;
    let mut headers = HeaderMap::new();
    cache_status::add_all(&mut headers, app.cache_mode, &reads);
    let (mut found, mut missing, mut stale) = (HashMap::new(), Vec::new(), Vec::new());
    for (key, read) in wanted.into_iter().zip(reads) {
        if read.stale {
            stale.push(key.clone());
        }
        let Some(value) = &read.value else {
            missing.push(key);
            continue;
        };
        let entry = Found {
            value: text(value)?.to_owned(),
            version: value.version,
            from_cache: is_cached(&read),
        };
        found.insert(key, entry);
    }
    let mut whole = json(&Many {
        found,
        missing,
        stale,
    });
    whole.headers_mut().extend(headers);
    Ok(whole)
}

/// Deletes a value.
#[utoipa::path(delete, path = "/read/{key}", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded"),
), responses(
    (status = 204, description = "It is deleted", headers(
        ("ETag" = String, description = "The version of the deletion, above all that the value had"),
    )),
    (status = 202, body = Written<'_>, description = "It is deleted, but Redis could not be told yet: reads may still find it for a while"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn delete(State(app): State<App>, Key(key): Key) -> Result<Whole, Problem> {
    check(&key)?;
    let deleted = app.store.delete(&key).await.map_err(of_delete)?;
    let Some(deleted) = deleted else {
        return Err(Problem::not_found("there is no value under this key"));
    };
    Ok(match deleted.coherence {
        Coherence::Settled => {
            let mut whole = Whole::default();
            *whole.status_mut() = StatusCode::NO_CONTENT;
            let tag = entity_tag(deleted.version);
            whole.headers_mut().insert(ETAG, tag);
            whole
        }
        Coherence::Pending => pending(&key, deleted.version),
    })
}
