//! When an instance or the database was not there. Invariant: an absence is noted with its whole length.

use std::sync::{Mutex, PoisonError};

use cenote_cache::moment::Moment;

/// Who was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Instance(usize),
    Database,
}

/// From when until when somebody was away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absence {
    pub(crate) who: Who,
    pub(crate) from: Moment,
    pub(crate) until: Moment,
}

/// All absences of a trial.
#[derive(Debug, Default)]
pub(crate) struct Downtime(Mutex<Vec<Absence>>);

impl Downtime {
    pub(crate) fn note(&self, who: Who, from: Moment, until: Moment) {
        let absence = Absence { who, from, until };
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        absences.push(absence);
    }

    /// Those that keep an instance from answering.
    pub(crate) fn of(&self, instance: usize) -> Vec<Absence> {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let concerns = |it: &&Absence| matches!(it.who, Who::Instance(who) if who == instance);
        absences.iter().filter(concerns).copied().collect()
    }

    /// Those that keep an instance from writing.
    pub(crate) fn of_writes(&self, instance: usize) -> Vec<Absence> {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let concerns = |it: &&Absence| match it.who {
            Who::Instance(who) => who == instance,
            Who::Database => true,
        };
        absences.iter().filter(concerns).copied().collect()
    }
}
