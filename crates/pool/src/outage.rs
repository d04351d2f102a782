//! What the pool knows of a server to which connects fail: how often, why, when to try again.
//! Invariant: nobody tries before `until`, and a single success makes all of it history.

use std::time::Duration;

use crate::Config;

/// Failing connects. `F` says why one failed.
pub(crate) struct Outage<F> {
    base: Duration,
    max: Duration,
    failures: u32,
    until: Duration,
    last_error: Option<F>,
}

impl<F> Outage<F> {
    pub(crate) fn new(limits: &Config) -> Self {
        Self {
            base: limits.backoff_base,
            max: limits.backoff_max,
            failures: 0,
            until: Duration::ZERO,
            last_error: None,
        }
    }

    /// A connect succeeded. Gives out the last error, if connects had been failing.
    pub(crate) fn connected(&mut self) -> Option<F> {
        self.failures = 0;
        self.until = Duration::ZERO;
        self.last_error.take()
    }

    /// A connect failed; nobody tries again for a while. `jitter` is random in 0..1. Gives back the
    /// error that the new one replaces.
    pub(crate) fn failed(&mut self, error: F, jitter: f64, now: Duration) -> Option<F> {
        // Connects that were under way together fail together: that is one failure, not many.
        if now >= self.until {
            let doublings = self.failures.min(16);
            let pause = self.base.saturating_mul(1 << doublings).min(self.max);
            self.until = now.saturating_add(pause.mul_f64(0.5 + jitter / 2.0));
            self.failures += 1;
        }
        self.last_error.replace(error)
    }

    /// Failures in a row, those together counted as one.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next connect may begin.
    pub(crate) fn until(&self) -> Duration {
        self.until
    }

    pub(crate) fn last_error(&self) -> Option<&F> {
        self.last_error.as_ref()
    }
}
