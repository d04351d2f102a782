//! The record of a server to which connects fail: how often, since when, why, and when to try again.
//!
//! Invariant: no connect begins before `until`, and a single success resets everything. So once the server is back, the
//! breaker is closed and no failure is permanent.

use std::time::Duration;

use crate::Config;

/// The circuit breaker and backoff of failing connects. `F` says why one failed.
pub(crate) struct Outage<F> {
    base: Duration,
    max: Duration,
    /// The pause once it is certain that time does not cure the failure, and the time until that is certain.
    permanent: Duration,
    breaker_after: Option<Duration>,
    /// Failures since the last success. Those that were under way together count as one.
    failures: u32,
    since: Duration,
    until: Duration,
    breaker_open: bool,
    /// A connect has succeeded at some time.
    has_worked: bool,
    /// Since when every failure was of a kind that time does not cure.
    permanent_since: Option<Duration>,
    /// It is certain that waiting does not help.
    is_permanent: bool,
    last_error: Option<F>,
}

/// A connect that failed.
pub(crate) struct Failure<F> {
    pub(crate) error: F,
    /// Time does not cure it.
    pub(crate) is_permanent: bool,
    /// Random in 0..1.
    pub(crate) jitter: f64,
}

/// What a failed connect changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailureEffect<F> {
    /// The error before, unless this is the first.
    pub(crate) previous: Option<F>,
    /// It has just become certain that waiting does not help.
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

    /// A connect succeeded. Returns the last error, if connects had been failing.
    pub(crate) fn connected(&mut self) -> Option<F> {
        self.failures = 0;
        self.until = Duration::ZERO;
        self.breaker_open = false;
        self.has_worked = true;
        self.permanent_since = None;
        self.is_permanent = false;
        self.last_error.take()
    }

    /// A connect that began at `began` failed, and a backoff begins. `none_open`: the pool has no connection at all.
    pub(crate) fn failed(
        &mut self,
        failure: Failure<F>,
        began: Duration,
        none_open: bool,
        now: Duration,
    ) -> FailureEffect<F> {
        let became_permanent = self.judge(failure.is_permanent, began, now);
        let opened_breaker = self.watch_breaker(began, none_open, now);
        self.back_off(failure.jitter, now);
        FailureEffect {
            became_permanent,
            previous: self.last_error.replace(failure.error),
            opened_breaker,
        }
    }

    /// Decides whether waiting helps. True if it has just become certain that it does not.
    fn judge(&mut self, is_permanent: bool, began: Duration, now: Duration) -> bool {
        let was_permanent = self.is_permanent;
        self.permanent_since = is_permanent.then(|| self.permanent_since.unwrap_or(began));
        // A pool that has worked may be about to work again: a password is often changed at the server first, and in
        // the clients a moment later. Until `permanent` has passed, it retries as after any other failure.
        let is_certain = |since| !self.has_worked || now.saturating_sub(since) >= self.permanent;
        self.is_permanent = self.permanent_since.is_some_and(is_certain);
        self.is_permanent && !was_permanent
    }

    /// Opens the breaker if nothing is open and connects have failed for long enough.
    fn watch_breaker(&mut self, began: Duration, none_open: bool, now: Duration) -> Option<Duration> {
        let limit = self.breaker_after.unwrap_or(Duration::MAX);
        // After a while without an attempt, the earlier failures say nothing about the time since.
        if self.failures == 0 || began.saturating_sub(self.until) >= limit {
            self.since = began;
        }
        let failing_for = now.saturating_sub(self.since);
        let opens = none_open && !self.breaker_open && failing_for >= limit;
        self.breaker_open |= opens;
        opens.then_some(failing_for)
    }

    /// Sets the time of the next attempt.
    fn back_off(&mut self, jitter: f64, now: Duration) {
        // Connects that were under way together fail together. That is one failure, so the pause doubles once.
        if now < self.until {
            return;
        }
        // 16 doublings exceed any sensible maximum, and the shift cannot overflow.
        let doublings = self.failures.min(16);
        let pause = match self.is_permanent {
            true => self.permanent,
            false => self.base.saturating_mul(1 << doublings).min(self.max),
        };
        self.until = now.saturating_add(pause.mul_f64(0.5 + jitter / 2.0));
        self.failures += 1;
    }

    /// Failures since the last success. Those that were under way together count as one.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next connect may begin.
    pub(crate) fn until(&self) -> Duration {
        self.until
    }

    pub(crate) fn breaker_is_open(&self) -> bool {
        self.breaker_open
    }

    /// True while connects certainly fail for a reason that time does not cure: after the first such failure if none
    /// has ever succeeded, otherwise once they have failed so for `backoff_permanent`.
    pub(crate) fn is_permanent(&self) -> bool {
        self.is_permanent
    }

    /// After what time a refused caller may try again: the next connect begins then, and takes a while.
    pub(crate) fn retry_after(&self, now: Duration) -> Duration {
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
    fn a_permanent_failure_is_retried_after_seconds_and_forgotten_after_a_success() {
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
    fn a_pool_that_has_worked_keeps_the_usual_backoff_until_a_failure_is_certainly_permanent() {
        let mut outage = outage();
        outage.connected();
        let mut now = 20_000;
        let mut pauses = Vec::new();
        while now < 25_000 {
            let failed = outage.failed(failure("password", true), ms(now), true, ms(now));
            assert!(!failed.became_permanent && !outage.is_permanent(), "at {now} ms");
            let pause = (outage.until() - ms(now)).as_millis() as u64;
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses[..5], [50, 100, 200, 400, 500]);
        assert!(pauses[5..].iter().all(|&pause| pause == 500));
        let failed = outage.failed(failure("password", true), ms(now), true, ms(now));
        assert!(failed.became_permanent && outage.is_permanent());
        assert_eq!(outage.until(), ms(now + 5_000));
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
