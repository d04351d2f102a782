//! How fresh a value kept in process is proven to be. Invariant: the proof dates from when the PING was sent.
//!
//! The connection that is told of changes answers in order: once it has answered a PING, everything it was told before
//! the PING was sent has been applied. So what is still kept was current at that moment.

use std::time::Duration;

use crate::protocol::time::BootTime;

/// The newest sign of life of the tracked connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LastPing {
    ping_sent: Option<BootTime>,
}

impl LastPing {
    /// Notes that a PING sent at `sent` was answered.
    pub fn answered(&mut self, sent: BootTime) {
        self.ping_sent = self.ping_sent.max(Some(sent));
    }

    /// Forgets everything, because the connection ended.
    pub fn revoke(&mut self) {
        *self = Self::default();
    }

    /// Whether what is kept is at `now` proven to be fresh enough.
    #[must_use]
    pub fn holds(&self, now: BootTime, staleness: Staleness) -> bool {
        self.ping_sent
            .is_some_and(|sent| now.since(sent) <= staleness.proven_for)
    }
}

/// How far behind the last acknowledged write an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Staleness {
    proven_for: Duration,
}

impl Staleness {
    /// For a clock that is read once every `clock_tick` and may therefore show as much too little. `None` if nothing
    /// would be left of `bound`.
    #[must_use]
    pub fn new(bound: Duration, clock_tick: Duration) -> Option<Self> {
        let proven_for = bound.checked_sub(clock_tick)?;
        (!proven_for.is_zero()).then_some(Self { proven_for })
    }
}

/// Counts what has invalidated a shard: a value may be kept only if the count has not moved since its request was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Everything that is on its way may no longer be kept.
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
    fn a_proof_dates_from_the_newest_ping_and_ends_with_the_connection() {
        let bound = Duration::from_millis(100);
        let staleness = Staleness::new(bound, Duration::from_millis(10)).unwrap();
        let mut proof = LastPing::default();
        assert!(!proof.holds(at(0), staleness));
        proof.answered(at(50));
        proof.answered(at(20));
        assert!(proof.holds(at(140), staleness));
        assert!(!proof.holds(at(141), staleness));
        proof.revoke();
        assert!(!proof.holds(at(50), staleness));
    }

    #[test]
    fn a_bound_within_the_tick_of_the_clock_cannot_be_proven() {
        let tick = Duration::from_millis(10);
        assert_eq!(Staleness::new(tick, tick), None);
    }
}
