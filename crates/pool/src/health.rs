//! How a pool is doing, in one word. Invariant: it follows from the [`Stats`] alone, so it is of the
//! same moment.

use crate::Stats;

/// How something is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Not known yet.
    #[default]
    Unknown,
    /// Callers are served in good time.
    Healthy,
    /// Callers are served, but not all of them, or not at once.
    Degraded,
    /// Callers are not served.
    Unhealthy,
}

impl HealthState {
    /// The state's name in lower case.
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
    /// The pool's health.
    ///
    /// * Unhealthy: it is draining or closed, or the last connect failed and nothing is open.
    /// * Unknown: no connect has ended yet.
    /// * Degraded: it is paused, callers wait or were just refused or shed, the last connect failed,
    ///   or a connection is held for too long.
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
