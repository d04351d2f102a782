//! How long a near value is proven to be fresh. Invariant: the proof dates from when the PING was sent.
//!
//! The connection that is told of changes delivers in order: once it has answered a PING, every message from before the PING has
//! been applied. So a value that is still kept was current when the PING was sent.

use std::time::Duration;

use crate::protocol::time::BootTime;

/// The newest PING that the tracked connection has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LastPing {
    ping_sent: Option<BootTime>,
}

impl LastPing {
    /// Notes that a PING sent at `sent` was answered.
    pub fn answered(&mut self, sent: BootTime) {
        self.ping_sent = self.ping_sent.max(Some(sent));
    }

    /// Forgets it, because the connection ended.
    pub fn revoke(&mut self) {
        *self = Self::default();
    }

    /// Whether near values are proven to be fresh enough at `now`.
    #[must_use]
    pub fn holds(&self, now: BootTime, staleness: Staleness) -> bool {
        self.ping_sent
            .is_some_and(|sent| now.since(sent) <= staleness.proven_for)
    }
}

/// How far behind the last acknowledged write a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Staleness {
    proven_for: Duration,
}

impl Staleness {
    /// Creates the bound for a clock that is refreshed once every `clock_tick` and may therefore be late by that much. `None`
    /// if nothing is left of `bound`.
    #[must_use]
    pub fn new(bound: Duration, clock_tick: Duration) -> Option<Self> {
        let proven_for = bound.checked_sub(clock_tick)?;
        (!proven_for.is_zero()).then_some(Self { proven_for })
    }
}

/// The number of invalidations of a slot. A value may be kept only if the number has not changed since its request was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Voids the permits of all loads in progress.
    pub fn advance(&mut self) {
        self.0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_proof_counts_from_the_newest_ping_and_ends_with_the_connection() {
        let bound = Duration::from_millis(100);
        let staleness = Staleness::new(bound, Duration::from_millis(10)).unwrap();
        let mut ping = LastPing::default();
        assert!(!ping.holds(at(0), staleness));
        ping.answered(at(50));
        ping.answered(at(20));
        assert!(ping.holds(at(140), staleness));
        assert!(!ping.holds(at(141), staleness));
        ping.revoke();
        assert!(!ping.holds(at(50), staleness));
    }

    #[test]
    fn a_bound_within_the_tick_of_the_clock_cannot_be_proven() {
        let tick = Duration::from_millis(10);
        assert_eq!(Staleness::new(tick, tick), None);
    }
}
