//! `POST /write` and `DELETE /read/{key}`. Invariant: a change that is answered 200, 202 or 204 is committed.

use std::error::Error;

use axum::{
    extract::State,
    http::{HeaderMap, Request, StatusCode, header::ETAG},
};
use bytes::Bytes;
use cenote_cache::Coherence;
use garde::Validate;
use hyper::body::Body;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    key_rules::{check_key, valid_key},
    read::ENVELOPE,
};
use crate::{
    app::App,
    http::{FullResponse, Json, Key, Problem, Stage, Stopwatch, Timings, no_nul},
    routes::{
        errors::{of_delete, of_key_write},
        openapi::{NotFound, PreconditionFailed},
        preconditions::{self, Preconditions, entity_tag},
        response::{json, json_sized},
    },
    store::{Change, ChangeOutcome},
};

/// A value to write under a key.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct Write {
    /// 1 to 2048 bytes, no NUL.
    #[garde(custom(valid_key))]
    #[schema(example = "greeting", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$")]
    key: String,
    /// No NUL.
    #[garde(custom(no_nul))]
    #[schema(example = "hello", pattern = "^[^\\u0000]*$")]
    value: String,
}

/// The result of a write or a delete.
#[derive(Serialize, ToSchema)]
pub(crate) struct Written<'a> {
    /// `ok`, or `coherence-pending` with status 202: the change is durable, but reads may miss it until Redis knows of it.
    #[schema(example = "ok", pattern = "^(ok|coherence-pending)$")]
    status: &'static str,
    key: &'a str,
    /// The version of this change. Each change of a key has a greater version than the one before.
    #[schema(minimum = 1)]
    version: i64,
}

/// Writes a value. When this is answered with 200, the value is durable and every read that begins later sees it.
#[utoipa::path(post, path = "/write", operation_id = "write_key", tag = "keys", request_body = Write, params(
    ("If-Match" = Option<String>, Header, description = "`ETag`s such as `\"2\"`: write only if the value has one of these versions. `*`: write only if there is a value", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-None-Match" = Option<String>, Header, description = "`*`: write only if there is no value. `ETag`s: write only if the value has none of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 200, body = Written<'_>, description = "The value is durable, and every read that begins from now on sees it"),
    (status = 202, body = Written<'_>, description = "The value is durable, but Redis could not be told yet: reads may miss the value for a while"),
    PreconditionFailed,
))]
pub(crate) async fn write<B>(app: &App, request: Request<B>, timings: Option<&Timings>) -> Result<FullResponse, Problem>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin + Send,
{
    let condition = Preconditions::from_headers(request.headers())?.into_condition();
    let Json(Write { key, value }) = Json::read(request).await?;
    let change = Change::write(key.clone(), value).only_if(condition);
    let watch = Stopwatch::start(timings);
    let outcome = app.store.keys.change(change).await;
    watch.stop(Stage::Db);
    let written = match outcome.map_err(of_key_write)? {
        ChangeOutcome::Committed(written) => written,
        ChangeOutcome::ConditionFailed { version } => return Ok(preconditions::failed(version)),
        ChangeOutcome::NothingToDelete => return Err(Problem::internal("a write was reported as a delete")),
    };
    Ok(match written.coherence {
        Coherence::Settled => {
            let body = Written {
                status: "ok",
                key: &key,
                version: written.version,
            };
            json_sized(ENVELOPE + key.len(), &body)
        }
        Coherence::Pending => pending(&key, written.version),
    })
}

/// Deletes a value.
#[utoipa::path(delete, path = "/read/{key}", operation_id = "delete_key", tag = "keys", params(
    ("key" = String, Path, description = "Any UTF-8, percent-encoded; slashes need no encoding", min_length = 1, max_length = 2048, pattern = "^[^\\u0000]*$"),
    ("If-Match" = Option<String>, Header, description = "`ETag`s such as `\"2\"`: delete only if the value has one of these versions. `*`: delete only if there is a value", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
    ("If-None-Match" = Option<String>, Header, description = "`ETag`s: delete only if the value has none of these versions", pattern = r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#),
), responses(
    (status = 204, description = "The value is deleted", headers(
        ("ETag" = String, description = "The version of the deletion, greater than every version of the value"),
    )),
    (status = 202, body = Written<'_>, description = "The value is deleted, but Redis could not be told yet: reads may still find the value for a while"),
    NotFound,
    PreconditionFailed,
))]
pub(crate) async fn delete(State(app): State<App>, Key(key): Key, headers: HeaderMap) -> Result<FullResponse, Problem> {
    check_key(&key)?;
    let condition = Preconditions::from_headers(&headers)?.into_condition();
    let change = Change::delete(key.clone()).only_if(condition);
    let deleted = match app.store.keys.change(change).await.map_err(of_delete)? {
        ChangeOutcome::Committed(deleted) => deleted,
        ChangeOutcome::NothingToDelete => return Err(Problem::not_found("there is no value under this key")),
        ChangeOutcome::ConditionFailed { version } => return Ok(preconditions::failed(version)),
    };
    Ok(match deleted.coherence {
        Coherence::Settled => {
            let mut response = FullResponse::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            let tag = entity_tag(deleted.version);
            response.headers_mut().insert(ETAG, tag);
            response
        }
        Coherence::Pending => pending(&key, deleted.version),
    })
}

/// Returns the 202 for a change that is committed, but that Redis does not know of yet.
fn pending(key: &str, version: i64) -> FullResponse {
    let body = Written {
        status: "coherence-pending",
        key,
        version,
    };
    let mut response = json(&body);
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
