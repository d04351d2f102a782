//! The time of one request. Invariant: read for each request, never cached by the service: a stale wall clock refuses good
//! tokens.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// The wall clock as of the kernel's last tick, at most 10 ms ago: for whole seconds that is the present, at a fifth of the
/// cost.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::RealtimeCoarse;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Realtime;

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
        Self {
            instant,
            unix: clock_gettime(CLOCK).tv_sec,
        }
    }
}
