//! How long values are kept. Invariant: values that were loaded together do not expire together.

use std::time::Duration;

use crate::value::Value;

/// How long values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// How long the value of a row is kept.
    pub present: Duration,
    /// How long the absence of a row is kept.
    pub absent: Duration,
}

impl Ttl {
    /// Keeps values for `present`, and absences for a tenth of it, but at least 1 s if `present` is longer: a key that is read
    /// before it is written should not stay absent for long.
    #[must_use]
    pub fn new(present: Duration) -> Self {
        let absent = (present / 10).max(Duration::from_secs(1)).min(present);
        Self { present, absent }
    }

    /// Up to a tenth less than configured, chosen at random.
    pub(crate) fn of(&self, value: Option<&Value>) -> Duration {
        let ttl = if value.is_some() { self.present } else { self.absent };
        ttl - ttl.mul_f64(0.1 * fastrand::f64())
    }
}
