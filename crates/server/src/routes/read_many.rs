//! `POST /read`. Invariant: an answer has a bounded size, and what it is made of is loaded only once there is room for it.

use std::{
    collections::{HashMap, HashSet},
    iter::zip,
};

use axum::{extract::State, http::HeaderMap};
use cenote_cache::read::Read;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    cache_status, encode,
    keys::{ENVELOPE, is_cached, text, valid_key},
    whole,
};
use crate::{
    app::App,
    http::{Json, Problem, Whole, entries},
    memory::{Claim, SMALL},
    problems::{of_full, of_read},
    store::{is_note, noted_size},
};

/// Keys in one request.
const MOST_KEYS: usize = 1000;
/// Bytes that the values of one answer may take while it is made. Values that are loaded by themselves count twice: as the
/// database sent them, and in the answer.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// So few keys are looked up without a claim, as one is.
const FEW_KEYS: usize = 4;

/// Keys to be read.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct ReadMany {
    /// 1 to 1000 keys, each of 1 to 2048 bytes without NUL.
    #[garde(custom(entries(1, MOST_KEYS)), inner(custom(valid_key)))]
    #[schema(min_items = 1, max_items = 1000, example = json!(["greeting", "nope"]))]
    keys: Vec<String>,
}

/// What stands under some keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Many<'a> {
    /// By key.
    found: HashMap<&'a str, Found<'a>>,
    /// Keys without a value, in the order in which they were asked for.
    missing: Vec<&'a str>,
    /// Only if there are any: keys whose values did not fit into this answer. Ask for them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<&'a str>,
    /// Only if there are any: the database failed, and of these keys this is what was known before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<&'a str>,
}

/// What stands under one of many keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Found<'a> {
    value: &'a str,
    #[schema(minimum = 1)]
    version: i64,
    from_cache: bool,
}

/// Reads many values in one round trip. Values of about 8 MiB fit into one answer; the keys of further ones are
/// `deferred`.
#[utoipa::path(post, path = "/read", operation_id = "read_keys", tag = "keys", request_body = ReadMany, responses(
    (status = 200, body = Many<'_>, description = "What there is under each of the keys", headers(
        ("Cache-Status" = String, description = "RFC 9211: `hit` if the database was asked for none, otherwise `fwd=miss`; \
            `detail` has how many came from which source, and the mode"),
        ("Age" = u64, description = "How far behind any of them may be, in seconds; none if nothing bounds that"),
    )),
))]
pub(super) async fn read_many(
    State(app): State<App>,
    Json(ReadMany { keys: mut wanted }): Json<ReadMany>,
) -> Result<Whole, Problem> {
    let mut seen = HashSet::with_capacity(wanted.len());
    wanted.retain(|key| seen.insert(key.clone()));
    let keys: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let look_ups = &app.memory.look_ups;
    let mut claim: Option<Claim> = None;
    loop {
        let _looking_up = match keys.len() {
            ..=FEW_KEYS => None,
            many => Some(look_ups.claim(many * SMALL).await.map_err(of_full)?),
        };
        let reads = app.store.read_many(&keys).await.map_err(of_read)?;
        let most = || MOST_BYTES.min(app.memory.answers.bytes());
        let room = claim.as_ref().map_or_else(most, Claim::bytes);
        let plan = Plan::new(&keys, &reads, room);
        if claim.is_none() && plan.bytes > SMALL {
            claim = app.memory.answers.try_claim(plan.bytes);
            if claim.is_none() {
                let bytes = plan.bytes;
                // Nothing is kept while others take their answers.
                drop((reads, _looking_up));
                claim = Some(app.memory.answers.claim(bytes).await.map_err(of_full)?);
                continue;
            }
        }
        return answer(&app, &keys, reads, plan, claim).await;
    }
}

/// What goes into an answer.
struct Plan {
    /// About what it takes while it is made.
    bytes: usize,
    /// Places of large values that are still to be loaded.
    to_load: Vec<usize>,
    /// By place.
    is_deferred: Vec<bool>,
}

impl Plan {
    /// As much as there is room for, and at least one value.
    fn new(keys: &[&str], reads: &[Read], room: usize) -> Self {
        let mut plan = Self {
            bytes: 0,
            to_load: Vec::new(),
            is_deferred: vec![false; keys.len()],
        };
        let mut has_value = false;
        for (place, (key, read)) in zip(keys, reads).enumerate() {
            let Some(value) = &read.value else {
                continue;
            };
            let large = noted_size(value);
            let size = large.map_or(value.bytes.len(), |size| size.saturating_mul(2));
            let bytes = plan.bytes.saturating_add(size + key.len() + ENVELOPE);
            if has_value && bytes > room {
                plan.is_deferred[place] = true;
                continue;
            }
            plan.bytes = bytes;
            has_value = true;
            if large.is_some() {
                plan.to_load.push(place);
            }
        }
        plan
    }
}

async fn answer(
    app: &App,
    keys: &[&str],
    mut reads: Vec<Read>,
    mut plan: Plan,
    claim: Option<Claim>,
) -> Result<Whole, Problem> {
    if !plan.to_load.is_empty() {
        let size = |place: usize| reads[place].value.as_ref().and_then(noted_size);
        let wanted = plan
            .to_load
            .iter()
            .map(|place| (keys[*place], size(*place).unwrap_or(0)));
        let wanted: Vec<_> = wanted.collect();
        let loaded = app.store.read_large(&wanted).await.map_err(of_read)?;
        for (place, read) in zip(&plan.to_load, loaded) {
            // It may have grown meanwhile.
            plan.is_deferred[*place] = is_note(&read);
            reads[*place] = read;
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
            value: text(value)?,
            version: value.version,
            from_cache: is_cached(read),
        };
        many.found.insert(key, entry);
    }
    let bytes = encode(plan.bytes.min(MOST_BYTES / 2), &many);
    let mut answer = whole(match claim {
        None => bytes.into(),
        Some(claim) => claim.hold(bytes),
    });
    answer.headers_mut().extend(headers);
    Ok(answer)
}
