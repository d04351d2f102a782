//! Where an answer comes from and how far behind it may be, as headers: `Cache-Status` (RFC 9211) and `Age`. Invariant:
//! nothing is formatted for an answer of one key that is up to date.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AGE};
use cenote_cache::read::{Read, Source};

use crate::settings::CacheMode;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Says it. Where nothing is cached there is nothing to say.
pub(super) fn add(headers: &mut HeaderMap, mode: CacheMode, read: &Read) {
    let Some(status) = status(mode, read) else {
        return;
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    add_age(headers, read.age);
}

/// Says it of an answer of many keys: how many came from where, and how far behind the oldest may be.
pub(super) fn add_all(headers: &mut HeaderMap, mode: CacheMode, reads: &[Read]) {
    let Some(mode) = name(mode) else {
        return;
    };
    let from = |source| reads.iter().filter(|read| read.source == source).count();
    let counts = [
        (from(Source::Near), "near"),
        (from(Source::Shared), "shared"),
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
    // Words and numbers always make a header value.
    if let Ok(status) = HeaderValue::from_str(&status) {
        headers.insert(CACHE_STATUS, status);
    }
    let ages = reads.iter().map(|read| read.age);
    add_age(headers, ages.reduce(|one, other| Some(one?.max(other?))).flatten());
}

fn add_age(headers: &mut HeaderMap, age: Option<Duration>) {
    match age {
        Some(age) if age.is_zero() => headers.insert(AGE, HeaderValue::from_static("0")),
        // Whole seconds, and never less than it is.
        Some(age) => headers.insert(AGE, HeaderValue::from(age.as_secs() + 1)),
        None => None,
    };
}

/// What a mode is called; none where nothing is cached.
fn name(mode: CacheMode) -> Option<&'static str> {
    match mode {
        CacheMode::Off => None,
        CacheMode::Local => Some("local"),
        CacheMode::Strong => Some("strong"),
        CacheMode::Bounded { .. } => Some("bounded"),
        CacheMode::Ttl => Some("ttl"),
    }
}

/// `detail` is source/mode, and /stale for what was known before the database failed.
macro_rules! statuses {
    ($read:expr, $mode:literal) => {
        match ($read.source, $read.stale) {
            (Source::Near, false) => concat!("cenote; hit; detail=near/", $mode),
            (Source::Shared, false) => concat!("cenote; hit; detail=shared/", $mode),
            (Source::Near, true) => concat!("cenote; hit; detail=near/", $mode, "/stale"),
            (Source::Shared, true) => concat!("cenote; hit; detail=shared/", $mode, "/stale"),
            (Source::Database, _) => concat!("cenote; fwd=miss; detail=database/", $mode),
        }
    };
}

fn status(mode: CacheMode, read: &Read) -> Option<&'static str> {
    Some(match mode {
        CacheMode::Off => return None,
        CacheMode::Local => statuses!(read, "local"),
        CacheMode::Strong => statuses!(read, "strong"),
        CacheMode::Bounded { .. } => statuses!(read, "bounded"),
        CacheMode::Ttl => statuses!(read, "ttl"),
    })
}
