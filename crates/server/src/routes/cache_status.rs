//! Where an answer comes from and how far behind it may be, as headers: `Cache-Status` (RFC 9211) and `Age`. Invariant:
//! nothing is formatted for an answer that is up to date.

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
    match read.age {
        Some(age) if age.is_zero() => headers.insert(AGE, HeaderValue::from_static("0")),
        // Whole seconds, and never less than it is.
        Some(age) => headers.insert(AGE, HeaderValue::from(age.as_secs() + 1)),
        None => None,
    };
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
