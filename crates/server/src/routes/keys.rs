//! `/write` and `/read`.

use axum::{
    extract::State,
    http::{HeaderMap, Request, StatusCode, Uri, header::ETAG},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use cenote_cache::{
    fenced::Coherence,
    origin::Value,
    read::{Read, Source},
};

use super::{
    cache_status, encode, json, json_of,
    preconditions::{self, Preconditions, Verdict, entity_tag},
    whole,
};
use crate::{
    app::App,
    http::{Json, Key, Problem, RequestBody, Whole, key_in, no_nul},
    memory::Claim,
    openapi::{NotFound, PreconditionFailed},
    problems::{of_cached_write, of_delete, of_full, of_read},
    store::{Change, Changed, Condition, noted_size},
};

/// Bytes of a key. PostgreSQL's index takes up to about 2,700.
const LONGEST_KEY: usize = 2048;
/// Bytes of an answer about a key beside the key and its value, about.
pub(super) const ENVELOPE: usize = 72;

/// A value to be stored under a key.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct Write {
    /// 1 to 2048 bytes, no NUL.
    #[garde(custom(valid_key))]
    #[schema(example = "greeting", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$")]
    key: String,
    /// No NUL.
    #[garde(custom(no_nul))]
    #[schema(example = "hello", pattern = "^[^\\u0000]*$")]
    value: String,
}

/// What became of a write.
#[derive(Serialize, ToSchema)]
pub(super) struct Written<'a> {
    /// `ok`; or, with 202, `coherence-pending`: it is durable, but until Redis has been told, reads may miss it.
    #[schema(example = "ok", pattern = "^(ok|coherence-pending)$")]
    status: &'static str,
    key: &'a str,
    /// Grows with every write of the key; each has its own.
    #[schema(minimum = 1)]
    version: i64,
}

/// What stands under a key.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    #[schema(minimum = 1)]
    version: i64,
    /// Whether it was served without asking the database.
    from_cache: bool,
    /// Only where it is true: the database failed, and this is what was known before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

pub(super) fn valid_key(key: &str, context: &()) -> garde::Result {
    match key.len() {
        1..=LONGEST_KEY => no_nul(key, context),
        0 => Err(garde::Error::new("must not be empty")),
        _ => Err(garde::Error::new(format!(
            "must not be longer than {LONGEST_KEY} bytes"
        ))),
    }
}

fn check(key: &str) -> Result<(), Problem> {
    valid_key(key, &()).map_err(|error| Problem::unprocessable().field("key", error.message().to_owned()))
}

/// Stores a value. It is durable when this is answered, and every read that begins later sees it.
#[utoipa::path(post, path = "/write", operation_id = "write_key", tag = "keys", request_body = Write, params(
    ("If-Match" = Option<String>, Header, description = "`ETag`s, or `*`: write only if the value has one of these versions, or any", example = "\"2\"", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-None-Match" = Option<String>, Header, description = "`*`: write only if there is no value; `ETag`s: only if it has none of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 200, body = Written<'_>, description = "It is durable, and every read that begins from now on sees it"),
    (status = 202, body = Written<'_>, description = "It is durable, but Redis could not be told yet: reads may miss it for a while"),
    PreconditionFailed,
))]
pub(super) async fn write(app: &App, request: Request<RequestBody>) -> Result<Whole, Problem> {
    let condition = Preconditions::of(request.headers())?.condition();
    let Json(write) = Json::read(request).await?;
    store(app, write, condition).await
}

pub(super) async fn write_by_router(
    State(app): State<App>,
    headers: HeaderMap,
    Json(write): Json<Write>,
) -> Result<Whole, Problem> {
    store(&app, write, Preconditions::of(&headers)?.condition()).await
}

async fn store(app: &App, Write { key, value }: Write, condition: Option<Condition>) -> Result<Whole, Problem> {
    let change = Change::write(key.clone(), value).only_if(condition);
    let written = match app.store.change(change).await.map_err(of_cached_write)? {
        Changed::Made(written) => written,
        Changed::Unmet { version } => return Ok(preconditions::failed(version)),
        Changed::Nothing => return Err(Problem::internal("a write made nothing")),
    };
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
#[utoipa::path(get, path = "/read/{key}", operation_id = "read_key", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded; slashes may stand as they are", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$"),
    ("If-None-Match" = Option<String>, Header, description = "The `ETag`s of earlier answers, or `*`: 304 if the value has one of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-Match" = Option<String>, Header, description = "`ETag`s, or `*`: 412 unless the value has one of these versions", example = "\"2\"", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 200, body = Entry<'_>, description = "There is a value", headers(
        ("ETag" = String, description = "The version"),
        ("Cache-Status" = String, description = "RFC 9211: `hit` or `fwd=miss`; `detail` has the source \
            (`near`, `shared` or `database`), the mode, and `stale` for what was known before the database failed"),
        ("Age" = u64, description = "How far behind it may be, in seconds; none if nothing bounds that"),
    )),
    (status = 304, description = "The caller has this version already", headers(("ETag" = String, description = "The version"))),
    NotFound,
    PreconditionFailed,
))]
pub(super) async fn read(app: &App, raw_key: &str, headers: &HeaderMap) -> Result<Whole, Problem> {
    let key = &*key_in(raw_key)?;
    check(key)?;
    let preconditions = Preconditions::of(headers)?;
    let read = app.store.read(key).await.map_err(of_read)?;
    let (read, claim) = match needed(&read, &preconditions) {
        None => (read, None),
        Some(size) => Box::pin(large(app, key, size)).await?,
    };
    let mut whole = answer(key, &read, &preconditions, claim).unwrap_or_else(Problem::into_whole);
    cache_status::add(whole.headers_mut(), app.cache_mode, &read);
    Ok(whole)
}

/// The size of a value that is wanted, and of which there is only a note so far.
fn needed(read: &Read, preconditions: &Preconditions) -> Option<usize> {
    let value = read.value.as_ref()?;
    let size = noted_size(value)?;
    (preconditions.verdict(value.version) == Verdict::Answer).then_some(size)
}

/// Reads a large value once there is room for it: as the database sent it, and as an answer.
async fn large(app: &App, key: &str, mut size: usize) -> Result<(Read, Option<Claim>), Problem> {
    loop {
        let claim = app.memory.answers.claim(2 * size).await.map_err(of_full)?;
        let reads = app.store.read_large(&[(key, size)]).await.map_err(of_read)?;
        let Some(read) = reads.into_iter().next() else {
            return Err(Problem::internal("a read answered nothing"));
        };
        match read.value.as_ref().and_then(noted_size) {
            // It has grown meanwhile.
            Some(now) => size = now,
            None => return Ok((read, Some(claim))),
        }
    }
}

pub(super) async fn read_by_router(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Whole, Problem> {
    let key = uri.path().strip_prefix("/read/").unwrap_or_default();
    read(&app, key, &headers).await
}

fn answer(key: &str, read: &Read, preconditions: &Preconditions, claim: Option<Claim>) -> Result<Whole, Problem> {
    let Some(found) = &read.value else {
        return Err(Problem::not_found("there is no value under this key"));
    };
    let mut answer = match preconditions.verdict(found.version) {
        Verdict::Answer => {
            let body = Entry {
                key,
                value: text(found)?,
                version: found.version,
                from_cache: is_cached(read),
                stale: read.stale,
            };
            let bytes = encode(ENVELOPE + key.len() + body.value.len(), &body);
            whole(match claim {
                None => bytes.into(),
                Some(claim) => claim.hold(bytes),
            })
        }
        Verdict::NotModified => {
            let mut unchanged = Whole::default();
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        }
        Verdict::Failed => return Ok(preconditions::failed(found.version)),
    };
    answer.headers_mut().insert(ETAG, entity_tag(found.version));
    Ok(answer)
}

pub(super) fn is_cached(read: &Read) -> bool {
    read.source != Source::Database
}

/// What the database holds is text, so whatever else comes from a cache was put there by somebody else.
pub(super) fn text(value: &Value) -> Result<&str, Problem> {
    std::str::from_utf8(&value.bytes).map_err(Problem::internal)
}

/// Deletes a value.
#[utoipa::path(delete, path = "/read/{key}", operation_id = "delete_key", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded; slashes may stand as they are", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$"),
    ("If-Match" = Option<String>, Header, description = "`ETag`s, or `*`: delete only if the value has one of these versions, or any", example = "\"2\"", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-None-Match" = Option<String>, Header, description = "`ETag`s: delete only if the value has none of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 204, description = "It is deleted", headers(
        ("ETag" = String, description = "The version of the deletion, above all that the value had"),
    )),
    (status = 202, body = Written<'_>, description = "It is deleted, but Redis could not be told yet: reads may still find it for a while"),
    NotFound,
    PreconditionFailed,
))]
pub(super) async fn delete(State(app): State<App>, Key(key): Key, headers: HeaderMap) -> Result<Whole, Problem> {
    check(&key)?;
    let condition = Preconditions::of(&headers)?.condition();
    let change = Change::delete(key.clone()).only_if(condition);
    let deleted = match app.store.change(change).await.map_err(of_delete)? {
        Changed::Made(deleted) => deleted,
        Changed::Nothing => return Err(Problem::not_found("there is no value under this key")),
        Changed::Unmet { version } => return Ok(preconditions::failed(version)),
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
