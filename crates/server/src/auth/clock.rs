//! The time of one request. Invariant: read for each request, never cached: a stale wall clock refuses good tokens.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For durations.
    pub(crate) instant: Instant,
    /// The wall clock in seconds since 1970, for dates in keys and tokens.
    pub(crate) unix: i64,
}

impl Now {
    /// Reads the clocks.
    pub(crate) fn read() -> Self {
        Self::at(Instant::now())
    }

    /// Reads the wall clock. `instant` is the present, which the caller knows already.
    pub(crate) fn at(instant: Instant) -> Self {
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self {
            instant,
            unix: match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => seconds(since),
                Err(before) => -seconds(before.duration()),
            },
        }
    }
}
