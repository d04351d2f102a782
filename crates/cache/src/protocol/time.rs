//! Points in time, and rights that end by themselves. Invariant: a right counts from when it was asked for, never from when it
//! was granted, so its holder ends it no later than the one that granted it.

use std::time::Duration;

/// A reading of a clock that never steps and goes on while the machine sleeps: `CLOCK_BOOTTIME` on Linux. `std::time::Instant`
/// stands still during a suspend, so a right that is measured by it would last too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(Duration);

impl BootTime {
    /// The time at which the clock shows this much time since its start.
    #[must_use]
    pub const fn from_clock(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Returns the time since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A right that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    until: BootTime,
}

impl Term {
    /// Creates a right that was asked for at `asked` and lasts for `length` from then.
    #[must_use]
    pub const fn new(asked: BootTime, length: Duration) -> Self {
        let until = BootTime(asked.0.saturating_add(length));
        Self { until }
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self, now: BootTime) -> bool {
        now < self.until
    }

    /// Returns the time left; zero when it has ended.
    #[must_use]
    pub const fn remaining(&self, now: BootTime) -> Duration {
        self.until.since(now)
    }

    /// Whether work that is cut off after `deadline` ends before the right does.
    #[must_use]
    pub fn fits(&self, now: BootTime, deadline: Duration) -> bool {
        self.is_running(now) && deadline <= self.until.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_secs(seconds))
    }

    #[test]
    fn a_term_ends_its_length_after_it_was_asked_for() {
        let term = Term::new(at(10), Duration::from_secs(2));
        assert!(term.is_running(at(11)));
        assert!(!term.is_running(at(12)));
        assert!(term.fits(at(11), Duration::from_secs(1)));
        assert!(!term.fits(at(11), Duration::from_millis(1001)));
        assert!(!term.fits(at(12), Duration::ZERO));
    }

    #[test]
    fn no_length_overflows() {
        assert!(Term::new(at(10), Duration::MAX).fits(at(20), Duration::from_secs(1)));
        assert_eq!(at(1).since(at(2)), Duration::ZERO);
    }
}
