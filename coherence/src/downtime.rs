//! When an instance or the database was down. Invariant: each downtime is recorded from its start to its end.

use std::sync::{Mutex, PoisonError};

use cenote_cache::protocol::time::BootTime;

/// Who was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Instance(usize),
    Database,
}

/// One downtime.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absence {
    pub(crate) who: Who,
    pub(crate) from: BootTime,
    pub(crate) until: BootTime,
}

/// All downtimes of a trial.
#[derive(Debug, Default)]
pub(crate) struct Downtime(Mutex<Vec<Absence>>);

impl Downtime {
    pub(crate) fn note(&self, who: Who, from: BootTime, until: BootTime) {
        let absence = Absence { who, from, until };
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        absences.push(absence);
    }

    /// The downtimes in which an instance cannot answer.
    pub(crate) fn of(&self, instance: usize) -> Vec<Absence> {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let concerns = |it: &&Absence| matches!(it.who, Who::Instance(who) if who == instance);
        absences.iter().filter(concerns).copied().collect()
    }

    /// The downtimes in which an instance cannot write.
    pub(crate) fn of_writes(&self, instance: usize) -> Vec<Absence> {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let concerns = |it: &&Absence| match it.who {
            Who::Instance(who) => who == instance,
            Who::Database => true,
        };
        absences.iter().filter(concerns).copied().collect()
    }
}
