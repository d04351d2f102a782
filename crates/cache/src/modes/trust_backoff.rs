//! How long to wait before Redis is trusted again after it was given up. Invariant: an epoch without Redis lasts until every
//! instance that polls acts on it, so that writes proceed between any two changes.
//!
//! If some instances reach Redis and others do not, the former trust it and the latter give it up, for ever, and every change
//! makes writes wait. So each time it is given up soon after it was trusted, the wait doubles.

use std::time::Duration;

use crate::protocol::{
    epoch::{EpochRow, Trust},
    time::BootTime,
};

/// An epoch with Redis that lasted fewer leases than this was a mistake.
const STEADY: u32 = 16;
/// The wait doubles at most this many times: up to 24 s with a lease of 2 s.
const MOST_DOUBLINGS: u32 = 3;

/// The changes of trust that an instance has seen.
#[derive(Debug, Default)]
pub(crate) struct TrustBackoff {
    newest: Option<EpochRow>,
    /// When the newest epoch with Redis was first seen; `None` if it is older than this instance.
    trusted_since: Option<BootTime>,
    /// How often in succession Redis was given up soon after it was trusted.
    relapses: u32,
}

impl TrustBackoff {
    /// Notes the row of a poll.
    pub(crate) fn note(&mut self, row: &EpochRow, now: BootTime, lease: Duration) {
        let newest = self.newest.replace(*row);
        match newest {
            Some(newest) if newest.epoch >= row.epoch => {}
            None => {}
            Some(_) if row.keyspace().is_some() => self.trusted_since = Some(now),
            Some(newest) if newest.trust == Trust::Undecided => {}
            Some(newest) => {
                let was_steady = self
                    .trusted_since
                    .is_none_or(|since| now.since(since) >= lease.saturating_mul(STEADY));
                // Two epochs without Redis: the one between them was over before it was seen.
                let is_relapse = newest.keyspace().is_none() || !was_steady;
                self.relapses = if is_relapse { self.relapses + 1 } else { 0 };
            }
        }
    }

    /// How long an epoch without Redis must have been known before one with Redis may follow. Other instances see it up to
    /// a poll later, and may act on it a lease after that.
    pub(crate) fn wait(&self, lease: Duration) -> Duration {
        let wait = lease.saturating_add(lease / 2);
        wait.saturating_mul(2_u32.pow(self.relapses.min(MOST_DOUBLINGS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::epoch::Nonce;

    const LEASE: Duration = Duration::from_secs(2);

    /// The wait after these rows, in seconds: when each was seen, its epoch, and whether it trusts a Redis.
    fn wait_after(rows: &[(u64, u64, bool)]) -> u64 {
        let mut backoff = TrustBackoff::default();
        for (at, epoch, trusts) in rows {
            let row = EpochRow {
                epoch: *epoch,
                trust: match trusts {
                    true => Trust::Keyspace(Nonce([1; 20])),
                    false => Trust::Nothing,
                },
                is_first: false,
            };
            let now = BootTime::from_clock(Duration::from_secs(*at));
            backoff.note(&row, now, LEASE);
        }
        backoff.wait(LEASE).as_secs()
    }

    #[test]
    fn a_steady_redis_is_trusted_again_once_all_instances_act_without_it() {
        assert_eq!(wait_after(&[(0, 1, false)]), 3);
        assert_eq!(wait_after(&[(0, 1, true), (1, 2, false)]), 3);
        assert_eq!(wait_after(&[(0, 1, false), (5, 2, true), (50, 3, false)]), 3);
    }

    #[test]
    fn the_wait_doubles_up_to_a_limit_when_trust_ends_soon() {
        let flapping: Vec<_> = (0..20).map(|n| (5 * n, n, n % 2 == 1)).collect();
        let waits: Vec<_> = [1, 3, 5, 7, 9].map(|n| wait_after(&flapping[..n])).into();
        assert_eq!(waits, [3, 6, 12, 24, 24]);
        let steady = [&flapping[..10], &[(100, 30, false)]].concat();
        assert_eq!(wait_after(&steady), 3);
    }

    #[test]
    fn an_epoch_that_ended_unseen_counts() {
        let unseen = [(0, 1, true), (100, 2, false), (101, 2, false), (103, 4, false)];
        assert_eq!(wait_after(&unseen), 6);
    }
}
