//! `GET /read/{key}`. Invariant: a large value is loaded only after memory for it was claimed.

use axum::http::{HeaderMap, StatusCode, header::ETAG};
use cenote_cache::{Read, Source, Value};
use serde::Serialize;
use utoipa::ToSchema;

use super::{cache_status, key_rules::check_key};
use crate::{
    app::App,
    http::{FullResponse, Problem, Stage, Stopwatch, Timings, decode_key},
    response_memory::Claim,
    routes::{
        errors::{of_no_room, of_read},
        openapi::{NotFound, PreconditionFailed},
        preconditions::{self, Preconditions, Verdict, entity_tag},
        response::{encode, json_bytes},
    },
    store::noted_size,
};

/// About the number of bytes of a response about one key, without the key and its value.
pub(super) const ENVELOPE: usize = 72;

/// The value of a key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    #[schema(minimum = 1)]
    version: i64,
    /// Whether the value was served without asking the database.
    from_cache: bool,
    /// Present only if true: the database failed, and this is the last known value.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// Reads a value.
#[utoipa::path(get, path = "/read/{key}", operation_id = "read_key", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded; slashes need no encoding", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$"),
    ("If-None-Match" = Option<String>, Header, description = "The `ETag`s of earlier responses, or `*`: 304 if the value has one of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-Match" = Option<String>, Header, description = "`ETag`s such as `\"2\"`, or `*`: 412 unless the value has one of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 200, body = Entry<'_>, description = "The value of the key", headers(
        ("ETag" = String, description = "The version"),
        ("Cache-Status" = String, description = "RFC 9211: `hit` or `fwd=miss`; `detail` has the source \
            (`near`, `shared` or `database`), the mode, and `stale` for a last known value while the database fails"),
        ("Age" = u64, description = "The number of seconds that the value may be out of date; absent if nothing bounds it"),
    )),
    (status = 304, description = "The caller has this version already", headers(("ETag" = String, description = "The version"))),
    NotFound,
    PreconditionFailed,
))]
pub(crate) async fn read(
    app: &App,
    raw_key: &str,
    headers: &HeaderMap,
    timings: Option<&Timings>,
) -> Result<FullResponse, Problem> {
    let key = &*decode_key(raw_key)?;
    check_key(key)?;
    let preconditions = Preconditions::from_headers(headers)?;
    let watch = Stopwatch::start(timings);
    let read = app.store.keys.read(key).await;
    watch.stop(match &read {
        Ok(read) if is_from_cache(read) => Stage::Cache,
        _ => Stage::Db,
    });
    let read = read.map_err(of_read)?;
    let (read, claim) = match size_to_load(&read, &preconditions) {
        None => (read, None),
        // Boxed, because it is rare and would make every read's future larger.
        Some(size) => Box::pin(load_large(app, key, size, timings)).await?,
    };
    let mut response = respond(key, &read, &preconditions, claim).unwrap_or_else(Problem::into_full_response);
    cache_status::add(response.headers_mut(), app.cache_mode, &read);
    Ok(response)
}

/// Returns the size of a large value that the response needs and of which the look-up brought only a size note.
fn size_to_load(read: &Read, preconditions: &Preconditions) -> Option<usize> {
    let value = read.value.as_ref()?;
    let size = noted_size(value)?;
    (preconditions.verdict(value.version) == Verdict::Send).then_some(size)
}

/// Loads a large value once there is memory for it twice: as the database sent it, and as the response.
async fn load_large(
    app: &App,
    key: &str,
    mut size: usize,
    timings: Option<&Timings>,
) -> Result<(Read, Option<Claim>), Problem> {
    loop {
        let watch = Stopwatch::start(timings);
        let claim = app.memory.responses.claim(2 * size).await.map_err(of_no_room)?;
        watch.stop(Stage::Wait);
        let watch = Stopwatch::start(timings);
        let reads = app.store.keys.read_large(&[(key, size)]).await.map_err(of_read)?;
        watch.stop(Stage::Db);
        let Some(read) = reads.into_iter().next() else {
            return Err(Problem::internal("a read of one key returned nothing"));
        };
        match read.value.as_ref().and_then(noted_size) {
            // The value has grown since its size was read: claim again.
            Some(grown) => size = grown,
            None => return Ok((read, Some(claim))),
        }
    }
}

fn respond(
    key: &str,
    read: &Read,
    preconditions: &Preconditions,
    claim: Option<Claim>,
) -> Result<FullResponse, Problem> {
    let Some(found) = &read.value else {
        return Err(Problem::not_found("there is no value under this key"));
    };
    let mut response = match preconditions.verdict(found.version) {
        Verdict::Send => {
            let body = Entry {
                key,
                value: value_text(found)?,
                version: found.version,
                from_cache: is_from_cache(read),
                stale: read.stale,
            };
            let bytes = encode(ENVELOPE + key.len() + body.value.len(), &body);
            json_bytes(match claim {
                None => bytes.into(),
                Some(claim) => claim.hold(bytes),
            })
        }
        Verdict::NotModified => {
            let mut unchanged = FullResponse::default();
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        }
        Verdict::Failed => return Ok(preconditions::failed(found.version)),
    };
    response.headers_mut().insert(ETAG, entity_tag(found.version));
    Ok(response)
}

pub(super) fn is_from_cache(read: &Read) -> bool {
    read.source != Source::Database
}

/// Returns the text of a value. PostgreSQL holds only text, so any other bytes were put into the cache by another program.
pub(super) fn value_text(value: &Value) -> Result<&str, Problem> {
    std::str::from_utf8(&value.bytes).map_err(Problem::internal)
}
