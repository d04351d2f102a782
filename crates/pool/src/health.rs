//! The health of a pool in one word. Invariant: it follows from the [`Stats`] alone, so both are of the same moment.

use crate::Stats;

/// The health of a pool or of what is built on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Not known yet.
    #[default]
    Unknown,
    /// Callers are served at once.
    Healthy,
    /// Some callers wait or are refused.
    Degraded,
    /// No caller is served.
    Unhealthy,
}

impl HealthState {
    /// Returns the name of the state in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Stats {
    /// Returns the health of the pool, the first that applies of:
    ///
    /// * Unhealthy: it is draining or closed, or the last connect failed and no connection is open.
    /// * Unknown: no connect has ended yet.
    /// * Degraded: it is paused, the last connect failed, a connection is leaked, callers wait, or one was refused or
    ///   shed within the last second.
    /// * Healthy.
    pub fn health(&self) -> HealthState {
        let connects_fail = self.connect_failures_in_a_row > 0;
        let has_trouble = connects_fail || self.paused || self.waiting > 0 || self.shedding || self.leaked > 0;
        match self.size() {
            _ if !self.open => HealthState::Unhealthy,
            0 if connects_fail => HealthState::Unhealthy,
            0 if self.connects == 0 => HealthState::Unknown,
            _ if has_trouble => HealthState::Degraded,
            _ => HealthState::Healthy,
        }
    }
}
