//! The headers `Cache-Status` (RFC 9211) and `Age`: where a value comes from, and how far out of date it may be.
//!
//! Invariant: nothing is formatted for a response about one key with a current value.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AGE};
use cenote_cache::{Read, Source};

use crate::store::CacheMode;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Adds the headers for one key. Adds none in mode `off`, which caches nothing.
pub(super) fn add(headers: &mut HeaderMap, mode: CacheMode, read: &Read) {
    let Some(status) = status(mode, read) else {
        return;
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    add_age(headers, read.age);
}

/// Adds the headers for several keys: the number of keys from each source, and the age of the oldest value.
pub(super) fn add_all(headers: &mut HeaderMap, mode: CacheMode, reads: &[Read]) {
    let Some(mode) = name(mode) else {
        return;
    };
    let from = |source| reads.iter().filter(|read| read.source == source).count();
    let counts = [
        (from(Source::Near), "near"),
        (from(Source::Redis), "shared"),
        (from(Source::Database), "database"),
        (reads.iter().filter(|read| read.stale).count(), "stale"),
    ];
    let detail: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let outcome = if from(Source::Database) > 0 { "fwd=miss" } else { "hit" };
    let status = format!("cenote; {outcome}; detail=\"{}/{mode}\"", detail.join(", "));
    // Cannot fail: words and numbers are valid in a header.
    if let Ok(status) = HeaderValue::from_str(&status) {
        headers.insert(CACHE_STATUS, status);
    }
    let ages = reads.iter().map(|read| read.age);
    add_age(headers, ages.reduce(|one, other| Some(one?.max(other?))).flatten());
}

fn add_age(headers: &mut HeaderMap, age: Option<Duration>) {
    match age {
        Some(age) if age.is_zero() => headers.insert(AGE, HeaderValue::from_static("0")),
        // Whole seconds, rounded up, so that `Age` is never too small.
        Some(age) => headers.insert(AGE, HeaderValue::from(age.as_secs() + 1)),
        None => None,
    };
}

/// Returns the name of a mode; `None` for `off`.
fn name(mode: CacheMode) -> Option<&'static str> {
    match mode {
        CacheMode::Off => None,
        CacheMode::Local => Some("local"),
        CacheMode::Strong => Some("strong"),
        CacheMode::Bounded => Some("bounded"),
        CacheMode::Ttl => Some("ttl"),
    }
}

/// Picks a header value. `detail` is `source/mode`, with `/stale` for the last known value while the database fails.
macro_rules! statuses {
    ($read:expr, $mode:literal) => {
        match ($read.source, $read.stale) {
            (Source::Near, false) => concat!("cenote; hit; detail=near/", $mode),
            (Source::Redis, false) => concat!("cenote; hit; detail=shared/", $mode),
            (Source::Near, true) => concat!("cenote; hit; detail=near/", $mode, "/stale"),
            (Source::Redis, true) => concat!("cenote; hit; detail=shared/", $mode, "/stale"),
            (Source::Database, _) => concat!("cenote; fwd=miss; detail=database/", $mode),
        }
    };
}

fn status(mode: CacheMode, read: &Read) -> Option<&'static str> {
    Some(match mode {
        CacheMode::Off => return None,
        CacheMode::Local => statuses!(read, "local"),
        CacheMode::Strong => statuses!(read, "strong"),
        CacheMode::Bounded => statuses!(read, "bounded"),
        CacheMode::Ttl => statuses!(read, "ttl"),
    })
}
