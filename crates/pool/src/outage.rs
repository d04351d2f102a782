//! What the pool knows of a server to which connects fail: how often, since when, why, and when to
//! try again. Invariant: nobody tries before `until`, and a single success makes all of it history,
//! so the breaker is never open after the server is back, and nothing is permanent after a success.

use std::time::Duration;

use crate::Config;

/// Failing connects. `F` says why one failed.
pub(crate) struct Outage<F> {
    base: Duration,
    max: Duration,
    /// The pause after a failure that time does not cure.
    permanent: Duration,
    breaker_after: Option<Duration>,
    failures: u32,
    since: Duration,
    until: Duration,
    breaker_open: bool,
    /// Whether a connect has ever succeeded.
    has_worked: bool,
    /// Since when each failure has been one that time does not cure.
    permanent_since: Option<Duration>,
    /// Whether it is certain by now that waiting does not help.
    is_permanent: bool,
    last_error: Option<F>,
}

/// A connect that failed.
pub(crate) struct Failure<F> {
    pub(crate) error: F,
    /// Whether time does not cure it.
    pub(crate) is_permanent: bool,
    /// Random in 0..1.
    pub(crate) jitter: f64,
}

/// What a failed connect changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed<F> {
    /// The error before, unless this is the first.
    pub(crate) previous: Option<F>,
    /// True if this one is permanent and the one before was not.
    pub(crate) became_permanent: bool,
    /// For how long connects have failed, if that has just opened the breaker.
    pub(crate) opened_breaker: Option<Duration>,
}

impl<F> Outage<F> {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            base: config.backoff_base,
            max: config.longest_pause(),
            permanent: config.backoff_permanent,
            breaker_after: config.breaker_after,
            failures: 0,
            since: Duration::ZERO,
            until: Duration::ZERO,
            breaker_open: false,
            has_worked: false,
            permanent_since: None,
            is_permanent: false,
            last_error: None,
        }
    }

    /// A connect succeeded. Gives out the last error, if connects had been failing.
    pub(crate) fn connected(&mut self) -> Option<F> {
        self.failures = 0;
        self.until = Duration::ZERO;
        self.breaker_open = false;
        self.has_worked = true;
        self.permanent_since = None;
        self.is_permanent = false;
        self.last_error.take()
    }

    /// A connect that began at `began` failed; nobody tries again for a while. `none_open` says that
    /// the pool has no connection at all.
    pub(crate) fn failed(&mut self, failure: Failure<F>, began: Duration, none_open: bool, now: Duration) -> Failed<F> {
        let Failure {
            error,
            is_permanent,
            jitter,
        } = failure;
        let limit = self.breaker_after.unwrap_or(Duration::MAX);
        // A failure long ago, since when nobody has tried, says nothing about the time between.
        if self.failures == 0 || began.saturating_sub(self.until) >= limit {
            self.since = began;
        }
        // Connects that were under way together fail together: that is one failure, not many.
        if now >= self.until {
            let doublings = self.failures.min(16);
            let pause = match is_permanent {
                true => self.permanent,
                false => self.base.saturating_mul(1 << doublings).min(self.max),
            };
            self.until = now.saturating_add(pause.mul_f64(0.5 + jitter / 2.0));
            self.failures += 1;
        }
        let failing_for = now.saturating_sub(self.since);
        let opens = none_open && !self.breaker_open && failing_for >= limit;
        self.breaker_open |= opens;
        let was_permanent = self.permanent_since.is_some();
        self.permanent_since = is_permanent.then(|| self.permanent_since.unwrap_or(began));
        // What has worked may be about to work again: a password is often changed at the server first.
        let certain = |since| !self.has_worked || now.saturating_sub(since) >= self.permanent;
        self.is_permanent = self.permanent_since.is_some_and(certain);
        Failed {
            became_permanent: is_permanent && !was_permanent,
            previous: self.last_error.replace(error),
            opened_breaker: opens.then_some(failing_for),
        }
    }

    /// Failures in a row, those together counted as one.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next connect may begin.
    pub(crate) fn until(&self) -> Duration {
        self.until
    }

    /// True while the server is taken for dead.
    pub(crate) fn breaker_is_open(&self) -> bool {
        self.breaker_open
    }

    /// True while connects fail for a reason that time does not cure: from the first on if none has ever succeeded,
    /// else once they have for a while.
    pub(crate) fn is_permanent(&self) -> bool {
        self.is_permanent
    }

    /// How long it takes at least until more is known.
    pub(crate) fn next_news(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now).max(self.base)
    }

    pub(crate) fn last_error(&self) -> Option<&F> {
        self.last_error.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn outage() -> Outage<&'static str> {
        Outage::new(&Config {
            breaker_after: Some(ms(1_000)),
            ..Config::default()
        })
    }

    fn failure(error: &'static str, is_permanent: bool) -> Failure<&'static str> {
        Failure {
            error,
            is_permanent,
            jitter: 1.0,
        }
    }

    /// A connect fails at once.
    fn fail(outage: &mut Outage<&'static str>, now: u64) -> Option<Duration> {
        let failed = outage.failed(failure("refused", false), ms(now), true, ms(now));
        failed.opened_breaker
    }

    #[test]
    fn the_breaker_opens_once_when_connects_have_failed_for_long_enough() {
        let mut outage = outage();
        for now in [0, 400, 800] {
            assert_eq!(fail(&mut outage, now), None);
        }
        assert_eq!(fail(&mut outage, 1_000), Some(ms(1_000)));
        assert_eq!(fail(&mut outage, 1_500), None);
        assert!(outage.breaker_is_open());
        assert_eq!(outage.connected(), Some("refused"));
        assert!(!outage.breaker_is_open());
        assert_eq!(fail(&mut outage, 2_000), None, "a new outage");
    }

    #[test]
    fn a_connect_that_hangs_has_been_failing_since_it_began() {
        let failed = outage().failed(failure("hung", false), ms(0), true, ms(1_000));
        assert_eq!(failed.opened_breaker, Some(ms(1_000)));
    }

    #[test]
    fn the_breaker_stays_closed_while_any_connection_is_open() {
        let mut outage = outage();
        for now in [0, 1_000, 2_000] {
            let failed = outage.failed(failure("refused", false), ms(now), false, ms(now));
            assert_eq!(failed.opened_breaker, None);
        }
        assert_eq!(fail(&mut outage, 2_500), Some(ms(2_500)));
    }

    #[test]
    fn what_time_does_not_cure_is_tried_again_after_seconds_and_forgotten_after_a_success() {
        let mut outage = outage();
        for now in [0, 5_000, 10_000] {
            let failed = outage.failed(failure("password", true), ms(now), true, ms(now));
            assert_eq!(failed.became_permanent, now == 0);
            assert_eq!(outage.until(), ms(now + 5_000));
            assert!(outage.is_permanent());
        }
        assert_eq!(fail(&mut outage, 15_000), None, "the breaker is open");
        assert!(!outage.is_permanent(), "the server is merely away now");
        assert!(outage.until() <= ms(15_500));
        assert_eq!(outage.connected(), Some("refused"));
        assert!(!outage.is_permanent());
    }

    #[test]
    fn what_has_worked_is_given_a_pause_to_work_again() {
        let mut outage = outage();
        outage.connected();
        for now in [20_000, 22_500, 25_000] {
            let failed = outage.failed(failure("password", true), ms(now), true, ms(now));
            assert_eq!(failed.became_permanent, now == 20_000);
            assert_eq!(outage.is_permanent(), now == 25_000);
        }
    }

    #[test]
    fn two_failures_with_nothing_tried_in_between_are_no_long_outage() {
        let mut outage = outage();
        assert_eq!(fail(&mut outage, 0), None);
        assert_eq!(fail(&mut outage, 60_000), None);
        assert_eq!(fail(&mut outage, 60_500), None);
        assert_eq!(fail(&mut outage, 61_000), Some(ms(1_000)));
    }
}
