//! Which Redis may be believed. Invariant: at no time do two instances act on different epochs.
//!
//! PostgreSQL has one row: the number of the epoch and the Redis that is trusted in it. An instance polls the row and
//! may act on what it read for the length of a lease, counted from when it sent the poll. A new row may be acted on only
//! once it is as old as a lease: by then nobody acts on the one before.

use std::time::Duration;

use crate::moment::{Moment, Term};

/// Tells one run of a Redis from any other: its run id. For a cluster, a digest of the run ids of all its primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 20]);

/// The row as a poll found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Grows with every change of the row. It is part of every cache key.
    pub epoch: u64,
    /// The Redis to use, or none: then everything goes to the database.
    pub trusted: Option<Identity>,
    /// How long before the poll the row was written, by PostgreSQL's clock.
    pub age: Duration,
}

/// What an instance sees of its Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// It does not answer.
    Unreachable,
    /// It answers, and has done so steadily.
    Answers(Identity),
}

/// The change of a row: to be made only where the epoch is still the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Successor {
    /// One more than the epoch it follows.
    pub epoch: u64,
    /// The Redis of the new epoch.
    pub trusted: Option<Identity>,
}

impl Row {
    /// What must follow this row, given what is seen; `None` while it is right.
    ///
    /// From one Redis to another the way leads through an epoch without any, and coming back to the same Redis takes a
    /// new epoch too: it may have lost what it held.
    #[must_use]
    pub fn successor(&self, seen: Sight) -> Option<Successor> {
        let trusted = match (self.trusted, seen) {
            (Some(trusted), Sight::Answers(found)) if trusted == found => return None,
            (Some(_), _) => None,
            (None, Sight::Answers(found)) => Some(found),
            (None, Sight::Unreachable) => return None,
        };
        let epoch = self.epoch + 1;
        Some(Successor { epoch, trusted })
    }
}

/// The right to act on an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// The epoch to put into cache keys.
    pub epoch: u64,
    /// The Redis to use; a connection to any other must not be used.
    pub trusted: Option<Identity>,
    /// For how long.
    pub term: Term,
}

impl View {
    /// What the answer to a poll sent at `sent` allows. `None` while the row is younger than a lease.
    #[must_use]
    pub fn new(row: &Row, sent: Moment, lease: Duration) -> Option<Self> {
        (row.age >= lease).then(|| Self {
            epoch: row.epoch,
            trusted: row.trusted,
            term: Term::new(sent, lease),
        })
    }
}

/// The times of the protocol. They fit together: with them, a statement that is dispatched right after a poll was
/// answered ends within its view and behind its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    lease: Duration,
    poll_interval: Duration,
    deadline: Duration,
    fence: Duration,
}

/// Times that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// No statement would fit what is left of a view before the next poll.
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
    /// Fences would fall before the statements behind them end.
    #[error("a fence of {fence:?} must last longer than the statements' deadline of {deadline:?}")]
    ShortFence {
        /// The fence's time to live as given.
        fence: Duration,
        /// The deadline as given.
        deadline: Duration,
    },
}

impl Timing {
    /// `lease`: how long a view lasts. `deadline`: after what time the database cuts off a statement. `fence`: after
    /// what time a fence falls whose writers are gone.
    ///
    /// # Errors
    /// [`InvalidTiming`] unless three quarters of the lease and all of the fence are longer than the deadline.
    pub fn new(
        lease: Duration,
        deadline: Duration,
        fence: Duration,
    ) -> Result<Self, InvalidTiming> {
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

    /// How long a view lasts from when its poll was sent, and how old a row must be to be acted on.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// The time from one poll to the next.
    #[must_use]
    pub const fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// After what time the database cuts off a statement.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The time to live of a fence.
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
    const ONE: Identity = Identity([1; 20]);
    const OTHER: Identity = Identity([2; 20]);

    fn at(milliseconds: u64) -> Moment {
        Moment::from_clock(Duration::from_millis(milliseconds))
    }

    proptest! {
        /// Whatever two polls saw of two rows, and however long they took to arrive.
        #[test]
        fn no_two_epochs_are_acted_on_at_once(
            old_took in 0..1_000_u64,
            gap in 0..200_u64,
            age in 0..2_500_u64,
            new_took in 0..1_000_u64,
            later in 0..1_000_u64,
        ) {
            let old_sent = 10_000;
            let new_run = old_sent + old_took + gap + age;
            let (new_sent, now) = (new_run - new_took, new_run + later);
            let old = Row { epoch: 1, trusted: Some(ONE), age: LEASE };
            let age = Duration::from_millis(age);
            let new = Row { epoch: 2, trusted: None, age };
            let acts = |row, sent| View::new(row, at(sent), LEASE).is_some_and(|view| view.term.is_running(at(now)));
            prop_assert!(!(acts(&old, old_sent) && acts(&new, new_sent)));
        }
    }

    #[test]
    fn a_view_of_a_row_as_old_as_a_lease_lasts_a_lease_from_the_poll() {
        let row = |age| Row {
            epoch: 3,
            trusted: Some(ONE),
            age,
        };
        assert_eq!(
            View::new(&row(LEASE - Duration::from_nanos(1)), at(0), LEASE),
            None
        );
        let view = View::new(&row(LEASE), at(500), LEASE).unwrap();
        assert!(view.term.is_running(at(2499)));
        assert!(!view.term.is_running(at(2500)));
    }

    #[test]
    fn every_change_of_redis_leads_through_an_epoch_without_one() {
        let row = |trusted| Row {
            epoch: 7,
            trusted,
            age: LEASE,
        };
        let next = |trusted, seen| {
            row(trusted)
                .successor(seen)
                .map(|next| (next.epoch, next.trusted))
        };
        assert_eq!(next(Some(ONE), Sight::Answers(ONE)), None);
        assert_eq!(next(Some(ONE), Sight::Answers(OTHER)), Some((8, None)));
        assert_eq!(next(Some(ONE), Sight::Unreachable), Some((8, None)));
        assert_eq!(next(None, Sight::Unreachable), None);
        assert_eq!(next(None, Sight::Answers(ONE)), Some((8, Some(ONE))));
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused() {
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
