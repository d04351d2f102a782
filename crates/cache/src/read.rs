//! What a read returns. Invariant: it says where the answer comes from and how far behind it may be.

use std::time::Duration;

use crate::{moment::Moment, origin::Value};

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The row's value; `None` if there is no row.
    pub value: Option<Value>,
    /// Where it was found.
    pub source: Source,
    /// How far behind it may be: every write that was acknowledged this long before the read began is seen. Zero in the
    /// modes `local`, `strong` and `off`; `None` if nothing bounds it, as for a plain cache-aside or a stale answer.
    pub age: Option<Duration>,
    /// The database failed, and this is what was known before.
    pub stale: bool,
}

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// In this process.
    Near,
    /// In Redis.
    Shared,
    /// In the database.
    Database,
}

/// An answer that others who wait for the same key may share.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) value: Option<Value>,
    pub(crate) source: Source,
    pub(crate) age: Option<Duration>,
    pub(crate) stale: bool,
    /// Just before the question was sent whose answer this is.
    asked: Moment,
    /// In which epoch, and since when at the earliest, the value stands in the cache for having been current then.
    stored: Option<(u64, Moment)>,
}

impl Answer {
    pub(crate) fn new(value: Option<Value>, source: Source, asked: Moment) -> Self {
        Self {
            value,
            source,
            age: Some(Duration::ZERO),
            stale: false,
            asked,
            stored: None,
        }
    }

    /// Notes that the answer was stored under a lease that had stood since before the question: no write was
    /// acknowledged in between. `since` is just before it was sent to be stored.
    pub(crate) fn stored(mut self, epoch: u64, since: Moment) -> Self {
        self.stored = Some((epoch, since));
        self
    }

    /// Nothing bounds the age of this answer.
    pub(crate) fn unbounded(mut self) -> Self {
        self.age = None;
        self
    }

    /// This is what was known before the database failed.
    pub(crate) fn outdated(mut self) -> Self {
        self.stale = true;
        self.unbounded()
    }

    /// Whether a read that began at `started` may be answered with this. `epoch` is what it was allowed to act on then.
    /// Either the question came after the read, or the answer was still current after it: and that only writes of the
    /// same epoch could have told.
    pub(crate) fn serves(&self, started: Moment, epoch: Option<u64>) -> bool {
        let is_current = |(of, since)| epoch == Some(of) && started < since;
        started < self.asked || self.stored.is_some_and(is_current)
    }
}

impl From<Answer> for Read {
    fn from(answer: Answer) -> Self {
        Self {
            value: answer.value,
            source: answer.source,
            age: answer.age,
            stale: answer.stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_clock(Duration::from_secs(seconds))
    }

    #[test]
    fn a_late_joiner_shares_only_what_was_stored_after_it_came_and_in_its_epoch() {
        let plain = Answer::new(None, Source::Database, at(10));
        assert!(plain.serves(at(9), None));
        assert!(!plain.serves(at(10), Some(1)));
        let stored = plain.stored(1, at(20));
        assert!(stored.serves(at(19), Some(1)));
        assert!(!stored.serves(at(19), Some(2)));
        assert!(!stored.serves(at(19), None));
        assert!(!stored.serves(at(20), Some(1)));
    }
}
