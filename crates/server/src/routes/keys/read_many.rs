//! `POST /read`. Invariant: a response has a bounded size, and large values are loaded only after memory for them was
//! claimed.

use std::{
    collections::{HashMap, HashSet},
    iter::zip,
};

use axum::{extract::State, http::HeaderMap};
use cenote_cache::Read;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    cache_status,
    key_rules::valid_key,
    read::{ENVELOPE, is_from_cache, value_text},
};
use crate::{
    app::App,
    http::{FullResponse, Json, Problem, entries},
    response_memory::{Claim, SMALL},
    routes::{
        errors::{of_no_room, of_read},
        response::{encode, json_bytes},
    },
    store::{is_size_note, noted_size},
};

/// Most keys in one request.
const MAX_KEYS: usize = 1000;
/// Most bytes that the values of one response take while it is built. Values that are loaded separately count twice: as
/// the database sent them, and in the response.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Up to this many keys are looked up without a claim of memory, like one key.
const FEW_KEYS: usize = 4;

/// Keys to read.
#[derive(Deserialize, Validate, ToSchema)]
pub(crate) struct ReadMany {
    /// 1 to 1000 keys, each of 1 to 2048 bytes without NUL.
    #[garde(custom(entries(1, MAX_KEYS)), inner(custom(valid_key)))]
    #[schema(min_items = 1, max_items = 1000, example = json!(["greeting", "nope"]))]
    keys: Vec<String>,
}

/// The values of several keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Many<'a> {
    /// The keys that have a value.
    found: HashMap<&'a str, Found<'a>>,
    /// The keys that have no value, in the order of the request.
    missing: Vec<&'a str>,
    /// Present only if not empty: keys whose values did not fit into this response. Request them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<&'a str>,
    /// Present only if not empty: the database failed, and the values of these keys are the last known ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<&'a str>,
}

/// The value of one of the keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Found<'a> {
    value: &'a str,
    #[schema(minimum = 1)]
    version: i64,
    from_cache: bool,
}

/// Reads the values of many keys in one round trip. One response has room for about 8 MiB of values; the keys of further
/// values are listed in `deferred`.
#[utoipa::path(post, path = "/read", operation_id = "read_keys", tag = "keys", request_body = ReadMany, responses(
    (status = 200, body = Many<'_>, description = "The values found, and the keys that have none", headers(
        ("Cache-Status" = String, description = "RFC 9211: `hit` if the database was asked for no key, otherwise `fwd=miss`; \
            `detail` has the number of keys from each source, and the mode"),
        ("Age" = u64, description = "The number of seconds that any of the values may be out of date; absent if nothing bounds it"),
    )),
))]
#[expect(
    clippy::significant_drop_tightening,
    reason = "the claim is held until the response takes it"
)]
pub(crate) async fn read_many(
    State(app): State<App>,
    Json(ReadMany { keys: mut wanted }): Json<ReadMany>,
) -> Result<FullResponse, Problem> {
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted.retain(|key| seen.insert(key.clone()));
    let keys: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let look_ups = &app.memory.look_ups;
    let mut claim: Option<Claim> = None;
    loop {
        let _looking_up = match keys.len() {
            ..=FEW_KEYS => None,
            many => Some(look_ups.claim(many * SMALL).await.map_err(of_no_room)?),
        };
        let reads = app.store.keys.read_many(&keys).await.map_err(of_read)?;
        let most = || MAX_BYTES.min(app.memory.responses.bytes());
        let room = claim.as_ref().map_or_else(most, Claim::bytes);
        let plan = Plan::new(&keys, &reads, room);
        if claim.is_none() && plan.bytes > SMALL {
            claim = app.memory.responses.try_claim(plan.bytes);
            if claim.is_none() {
                let bytes = plan.bytes;
                // Hold no values while waiting for clients to read their responses. Read again afterwards.
                drop((reads, _looking_up));
                claim = Some(app.memory.responses.claim(bytes).await.map_err(of_no_room)?);
                continue;
            }
        }
        return respond(&app, &keys, reads, plan, claim).await;
    }
}

/// Which values go into a response.
struct Plan {
    /// About the number of bytes that building the response takes.
    bytes: usize,
    /// The indexes of keys whose large values are still to be loaded.
    to_load: Vec<usize>,
    /// By index of the key.
    is_deferred: Vec<bool>,
}

impl Plan {
    /// Plans as many values as fit into `room` bytes, and at least one.
    fn new(keys: &[&str], reads: &[Read], room: usize) -> Self {
        let mut plan = Self {
            bytes: 0,
            to_load: Vec::new(),
            is_deferred: vec![false; keys.len()],
        };
        let mut has_value = false;
        for (index, (key, read)) in zip(keys, reads).enumerate() {
            let Some(value) = &read.value else {
                continue;
            };
            let large = noted_size(value);
            let size = large.map_or(value.bytes.len(), |size| size.saturating_mul(2));
            let bytes = plan.bytes.saturating_add(size + key.len() + ENVELOPE);
            if has_value && bytes > room {
                plan.is_deferred[index] = true;
                continue;
            }
            plan.bytes = bytes;
            has_value = true;
            if large.is_some() {
                plan.to_load.push(index);
            }
        }
        plan
    }
}

async fn respond(
    app: &App,
    keys: &[&str],
    mut reads: Vec<Read>,
    mut plan: Plan,
    claim: Option<Claim>,
) -> Result<FullResponse, Problem> {
    if !plan.to_load.is_empty() {
        let size = |index: usize| reads[index].value.as_ref().and_then(noted_size);
        let wanted = plan
            .to_load
            .iter()
            .map(|index| (keys[*index], size(*index).unwrap_or(0)));
        let wanted: Vec<_> = wanted.collect();
        let loaded = app.store.keys.read_large(&wanted).await.map_err(of_read)?;
        for (index, read) in zip(&plan.to_load, loaded) {
            // A value that has grown since its size was read does not fit any more.
            plan.is_deferred[*index] = is_size_note(&read);
            reads[*index] = read;
        }
    }
    let mut headers = HeaderMap::new();
    cache_status::add_all(&mut headers, app.cache_mode, &reads);
    let mut many = Many {
        found: HashMap::with_capacity(keys.len()),
        missing: Vec::new(),
        deferred: Vec::new(),
        stale: Vec::new(),
    };
    for ((key, read), is_deferred) in zip(zip(keys, &reads), plan.is_deferred) {
        if is_deferred {
            many.deferred.push(key);
            continue;
        }
        if read.stale {
            many.stale.push(key);
        }
        let Some(value) = &read.value else {
            many.missing.push(key);
            continue;
        };
        let entry = Found {
            value: value_text(value)?,
            version: value.version,
            from_cache: is_from_cache(read),
        };
        many.found.insert(key, entry);
    }
    let bytes = encode(plan.bytes.min(MAX_BYTES / 2), &many);
    let mut response = json_bytes(match claim {
        None => bytes.into(),
        Some(claim) => claim.hold(bytes),
    });
    response.headers_mut().extend(headers);
    Ok(response)
}
