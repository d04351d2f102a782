//! Which Redis keyspace is trusted. Invariant: no two instances act on different epochs at the same time.
//!
//! PostgreSQL has one row: the number of the epoch and the keyspace that is trusted in it. An instance polls the row and may act
//! on the result for a lease, counted from when it sent the poll. It may act on a new row only once it has known the row for a
//! lease: every poll that still found the old row was sent before that, so by then no instance acts on the old row. Each
//! instance uses only its own clock, and it does not matter how long the commit of the row took.
//!
//! The first decision is the exception: no instance acts on the row before it, so it may be acted on at once.

use std::{fmt, time::Duration};

use crate::protocol::time::{BootTime, Term};

/// The name of a keyspace: a random secret, drawn for an epoch. The cells of the epoch are where its proof is found; see
/// `keyspace_proof`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 20]);

/// Does not show the secret.
impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(…)")
    }
}

/// What an epoch trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Nothing has been decided since the row was created. No instance may act on it.
    Undecided,
    /// No Redis: everything goes to the database.
    Nothing,
    /// The keyspace in which the proof of this nonce is found.
    Keyspace(Nonce),
}

/// The row as a poll found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochRow {
    /// Grows with every change of the row.
    pub epoch: u64,
    /// The trusted keyspace.
    pub trust: Trust,
    /// Whether this is the first decision after [`Trust::Undecided`] and at most 10 s old by the database's clock. Then it may
    /// be acted on at once. An origin that cannot tell returns `false`.
    pub is_first: bool,
}

/// What an instance has seen of its Redis for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// It does not answer.
    Unreachable,
    /// It answers, but the trusted keyspace is not found there, or none is trusted.
    Answers,
    /// The trusted keyspace is found there.
    Proves,
}

impl EpochRow {
    /// Returns the row that must follow this one, given what is seen; `None` while this one is right. Write it only if the epoch
    /// is still this one. If it trusts a keyspace, that is the one of `nonce`, whose proof must have been written before.
    ///
    /// Between two keyspaces there is always an epoch without any. Trusting the same Redis again takes a new epoch too: it may
    /// have lost cells meanwhile.
    #[must_use]
    pub fn successor(&self, seen: Sight, nonce: Nonce) -> Option<Self> {
        let trust = match (self.trust, seen) {
            (Trust::Keyspace(_), Sight::Proves) | (Trust::Nothing, Sight::Unreachable) => {
                return None;
            }
            (Trust::Keyspace(_), _) | (Trust::Undecided, Sight::Unreachable) => Trust::Nothing,
            (Trust::Nothing | Trust::Undecided, _) => Trust::Keyspace(nonce),
        };
        Some(Self {
            epoch: self.epoch + 1,
            trust,
            is_first: self.trust == Trust::Undecided,
        })
    }

    /// Returns the next row without Redis.
    #[must_use]
    pub fn without_redis(&self) -> Self {
        Self {
            epoch: self.epoch + 1,
            trust: Trust::Nothing,
            is_first: false,
        }
    }

    /// Returns the trusted keyspace, if there is one.
    #[must_use]
    pub fn keyspace(&self) -> Option<Nonce> {
        match self.trust {
            Trust::Keyspace(nonce) => Some(nonce),
            Trust::Undecided | Trust::Nothing => None,
        }
    }
}

/// The right to act on an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// The epoch.
    pub epoch: u64,
    /// The keyspace to use, if any; a connection that does not prove it must not be used.
    pub keyspace: Option<Nonce>,
    /// How long it may be acted on.
    pub term: Term,
}

/// What an instance knows of the row, and since when it knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch {
    newest: Option<(EpochRow, BootTime)>,
    view: Option<View>,
}

impl Watch {
    /// Notes the answer, received at `now`, to a poll that was sent at `sent`.
    ///
    /// A new row does not end the view of the old one: that view ends by itself before any instance acts on the new row.
    pub fn answered(&mut self, row: EpochRow, sent: BootTime, now: BootTime, lease: Duration) {
        let (row, met) = match self.newest {
            Some((newest, _)) if row.epoch < newest.epoch => return,
            Some((newest, met)) if (row.epoch, row.trust) == (newest.epoch, newest.trust) => (newest, met),
            // If this instance has seen an earlier decision, this one is not the first.
            Some((newest, _)) if newest.trust != Trust::Undecided => {
                let is_first = false;
                (EpochRow { is_first, ..row }, now)
            }
            _ => (row, now),
        };
        self.newest = Some((row, met));
        let is_usable = row.is_first || now.since(met) >= lease;
        if row.trust != Trust::Undecided && is_usable {
            self.view = Some(View {
                epoch: row.epoch,
                keyspace: row.keyspace(),
                term: Term::new(sent, lease),
            });
        }
    }

    /// Returns the view that may be acted on at `now`.
    #[must_use]
    pub fn view(&self, now: BootTime) -> Option<View> {
        self.view.filter(|view| view.term.is_running(now))
    }

    /// Returns how long the newest row has been known at `now`.
    #[must_use]
    pub fn known_for(&self, now: BootTime) -> Duration {
        self.newest.map_or(Duration::ZERO, |(_, met)| now.since(met))
    }

    /// Returns the newest row that was seen, acted on or not.
    #[must_use]
    pub fn newest(&self) -> Option<EpochRow> {
        self.newest.map(|(row, _)| row)
    }
}

/// The durations of the protocol. They fit together: a statement that is sent right after a poll ends within its view and while
/// its fence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    lease: Duration,
    poll_interval: Duration,
    deadline: Duration,
    fence: Duration,
}

/// Durations that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// No statement would fit in what remains of a view before the next poll.
    #[error(
        "a lease of {lease:?} must be longer than the statements' deadline of {deadline:?} and the quarter of itself \
         between two polls"
    )]
    ShortLease {
        /// The lease as given.
        lease: Duration,
        /// The deadline as given.
        deadline: Duration,
    },
    /// Fences would expire before the statements behind them end.
    #[error("a fence of {fence:?} must last longer than the statements' deadline of {deadline:?}")]
    ShortFence {
        /// The fence's time to live as given.
        fence: Duration,
        /// The deadline as given.
        deadline: Duration,
    },
}

impl Timing {
    /// `lease`: how long a view lasts. `deadline`: when the database cuts off a statement. `fence`: when a fence expires whose
    /// writers are gone.
    ///
    /// # Errors
    /// [`InvalidTiming`] unless three quarters of the lease and all of the fence are longer than the deadline.
    pub fn new(lease: Duration, deadline: Duration, fence: Duration) -> Result<Self, InvalidTiming> {
        let poll_interval = lease / 4;
        if lease.saturating_sub(poll_interval) <= deadline {
            return Err(InvalidTiming::ShortLease { lease, deadline });
        }
        if fence <= deadline {
            return Err(InvalidTiming::ShortFence { fence, deadline });
        }
        Ok(Self {
            lease,
            poll_interval,
            deadline,
            fence,
        })
    }

    /// Returns how long a view lasts from when its poll was sent, and how long a row must be known before it is acted on.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns the time from one poll to the next.
    #[must_use]
    pub const fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Returns the time after which the database cuts off a statement.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns the time to live of a fence.
    #[must_use]
    pub const fn fence(&self) -> Duration {
        self.fence
    }
}

impl Default for Timing {
    /// A lease of 2 s, a deadline of 1 s and a fence of 3 s.
    fn default() -> Self {
        let lease = Duration::from_secs(2);
        Self {
            lease,
            poll_interval: lease / 4,
            deadline: Duration::from_secs(1),
            fence: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const ONE: Trust = Trust::Keyspace(Nonce([1; 20]));

    fn at(milliseconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_millis(milliseconds))
    }

    const fn row(epoch: u64, trust: Trust) -> EpochRow {
        let is_first = false;
        EpochRow { epoch, trust, is_first }
    }

    proptest! {
        /// One instance knows a row and polls it once more. Then the row changes, and another instance polls twice. The polls
        /// take any time.
        #[test]
        fn no_two_epochs_are_acted_on_at_once(
            old_took in 0..1_000_u64,
            gap in 0..200_u64,
            met in 0..1_000_u64,
            known_for in 0..2_500_u64,
            new_took in 0..1_000_u64,
            later in 0..1_000_u64,
        ) {
            let (old, new) = (row(1, ONE), row(2, Trust::Nothing));
            let old_sent = 10_000;
            let mut behind = Watch::default();
            behind.answered(old, at(0), at(0), LEASE);
            behind.answered(old, at(old_sent), at(old_sent + old_took), LEASE);

            // The row is changed at the end of the gap, and polled not before.
            let first_answer = old_sent + old_took + gap + met;
            let second_answer = first_answer + known_for;
            let mut ahead = Watch::default();
            ahead.answered(new, at(first_answer - met), at(first_answer), LEASE);
            let second_sent = (second_answer - new_took).max(first_answer);
            ahead.answered(new, at(second_sent), at(second_answer), LEASE);

            let now = at(second_answer + later);
            prop_assert!(behind.view(now).is_none() || ahead.view(now).is_none());
        }
    }

    #[test]
    fn a_row_is_acted_on_once_it_was_known_for_a_lease_and_for_a_lease_from_the_poll() {
        let row = row(3, ONE);
        let mut watch = Watch::default();
        watch.answered(row, at(0), at(100), LEASE);
        watch.answered(row, at(1500), at(2099), LEASE);
        assert_eq!(watch.view(at(2099)), None);
        assert_eq!(watch.newest(), Some(row));
        watch.answered(row, at(2000), at(2100), LEASE);
        assert_eq!(watch.view(at(3999)).unwrap().epoch, 3);
        assert_eq!(watch.view(at(4000)), None);
    }

    #[test]
    fn a_new_row_does_not_shorten_the_previous_view() {
        let (old, new) = (row(3, ONE), row(4, Trust::Nothing));
        let mut watch = Watch::default();
        watch.answered(old, at(0), at(0), LEASE);
        watch.answered(old, at(2000), at(2000), LEASE);
        watch.answered(new, at(2500), at(2500), LEASE);
        watch.answered(old, at(2400), at(2600), LEASE);
        assert_eq!(watch.view(at(3999)).unwrap().epoch, 3);
        assert_eq!(watch.view(at(4000)), None);
        watch.answered(new, at(4400), at(4500), LEASE);
        assert_eq!(watch.view(at(4500)).unwrap().epoch, 4);
    }

    #[test]
    fn no_instance_acts_on_an_undecided_row_and_all_at_once_on_the_first_decision() {
        let first = EpochRow {
            is_first: true,
            ..row(4, ONE)
        };
        let mut watch = Watch::default();
        watch.answered(row(3, Trust::Undecided), at(0), at(0), LEASE);
        watch.answered(row(3, Trust::Undecided), at(5000), at(5000), LEASE);
        assert_eq!(watch.view(at(5000)), None);
        watch.answered(first, at(5100), at(5200), LEASE);
        assert_eq!(watch.view(at(7099)).unwrap().epoch, 4);
        assert_eq!(watch.view(at(7100)), None);
        let mut newcomer = Watch::default();
        newcomer.answered(first, at(0), at(0), LEASE);
        assert!(newcomer.view(at(0)).is_some());
    }

    #[test]
    fn a_decision_after_a_known_one_is_not_the_first() {
        let restored = EpochRow {
            is_first: true,
            ..row(9, ONE)
        };
        let mut watch = Watch::default();
        watch.answered(row(8, Trust::Nothing), at(0), at(0), LEASE);
        watch.answered(restored, at(100), at(100), LEASE);
        watch.answered(restored, at(200), at(200), LEASE);
        assert_eq!(watch.view(at(200)), None);
        watch.answered(restored, at(2100), at(2100), LEASE);
        assert!(watch.view(at(2100)).is_some());
    }

    #[test]
    fn every_change_of_redis_passes_an_epoch_without_redis() {
        let fresh = Nonce([2; 20]);
        let next = |trust, seen| {
            let next = row(7, trust).successor(seen, fresh);
            next.map(|next| (next.epoch, next.trust, next.is_first))
        };
        let proposed = Trust::Keyspace(fresh);
        for (trust, seen, expected) in [
            (ONE, Sight::Proves, None),
            (ONE, Sight::Answers, Some((8, Trust::Nothing, false))),
            (ONE, Sight::Unreachable, Some((8, Trust::Nothing, false))),
            (Trust::Nothing, Sight::Unreachable, None),
            (Trust::Nothing, Sight::Answers, Some((8, proposed, false))),
            (Trust::Undecided, Sight::Unreachable, Some((8, Trust::Nothing, true))),
            (Trust::Undecided, Sight::Answers, Some((8, proposed, true))),
        ] {
            assert_eq!(next(trust, seen), expected, "{trust:?} {seen:?}");
        }
    }

    #[test]
    fn contradictory_times_are_refused() {
        let seconds = Duration::from_secs;
        let timing = Timing::new(seconds(2), seconds(1), seconds(3)).unwrap();
        assert_eq!(timing, Timing::default());
        assert_eq!(timing.poll_interval(), Duration::from_millis(500));
        assert!(matches!(
            Timing::new(seconds(2), Duration::from_millis(1500), seconds(3)),
            Err(InvalidTiming::ShortLease { .. })
        ));
        assert!(matches!(
            Timing::new(seconds(2), seconds(1), seconds(1)),
            Err(InvalidTiming::ShortFence { .. })
        ));
    }
}
