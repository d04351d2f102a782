//! The clock of [`BootTime`]. Invariant: it never steps, and it goes on while the machine sleeps.
//!
//! A reading takes some 25 ns. A copy that a task refreshes every few milliseconds would be cheaper but unreliable: if the
//! task does not run, the copy stands still, and near values would be used beyond their proven age.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::protocol::time::BootTime;

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock itself counts the time asleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Returns the current time.
#[must_use]
pub fn now() -> BootTime {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    BootTime::from_clock(Duration::new(seconds, nanoseconds))
}

/// The instant this long after another. A sum beyond the range of the clock becomes an instant 30 years away.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on() {
        let start = now();
        while now() == start {}
        assert!(now() > start);
    }
}
