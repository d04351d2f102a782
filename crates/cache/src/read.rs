//! The result of a read. Invariant: it says where the value was found and how far behind it may be.

use std::time::Duration;

use crate::{protocol::time::BootTime, value::Value};

/// The result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The row's value; `None` if there is no row.
    pub value: Option<Value>,
    /// Where it was found.
    pub source: Source,
    /// How far behind it may be: the read saw every write that was acknowledged this long before it began. Zero in the modes
    /// `local`, `strong` and `off`; `None` if nothing bounds it, as in `ttl` or for a stale value.
    pub age: Option<Duration>,
    /// Whether the database failed and this value was known before.
    pub stale: bool,
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// In this process.
    Near,
    /// In Redis.
    Redis,
    /// In the database.
    Database,
}

/// A read with its dates, by which other reads of the same key may share it.
#[derive(Debug, Clone)]
pub(crate) struct DatedRead {
    pub(crate) read: Read,
    /// The time just before the value was asked for.
    asked: BootTime,
    /// If the value was stored: in which epoch, and the earliest time at which it was known to be current there.
    stored: Option<(u64, BootTime)>,
}

impl DatedRead {
    pub(crate) fn new(value: Option<Value>, source: Source, asked: BootTime) -> Self {
        let read = Read {
            value,
            source,
            age: Some(Duration::ZERO),
            stale: false,
        };
        Self {
            read,
            asked,
            stored: None,
        }
    }

    /// Notes that the value was stored under a lease that had stood since before the question: no write was acknowledged
    /// in between. `since` is just before it was sent to be stored.
    pub(crate) fn stored(mut self, epoch: u64, since: BootTime) -> Self {
        self.stored = Some((epoch, since));
        self
    }

    /// Notes that nothing bounds the age of the value.
    pub(crate) fn unbounded(mut self) -> Self {
        self.read.age = None;
        self
    }

    /// Notes that this value was known before the database failed.
    pub(crate) fn outdated(mut self) -> Self {
        self.read.stale = true;
        self.unbounded()
    }

    /// Whether a read that began at `started`, allowed to act on `epoch`, may share this. Either the question was sent
    /// after that read began, or the value was still current after it began. The latter holds only within one epoch:
    /// a write in another epoch does not end the lease that proved it.
    pub(crate) fn serves(&self, started: BootTime, epoch: Option<u64>) -> bool {
        let is_current = |(of, since)| epoch == Some(of) && started < since;
        started < self.asked || self.stored.is_some_and(is_current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_secs(seconds))
    }

    #[test]
    fn a_late_joiner_shares_only_values_stored_after_it_joined_in_its_epoch() {
        let plain = DatedRead::new(None, Source::Database, at(10));
        assert!(plain.serves(at(9), None));
        assert!(!plain.serves(at(10), Some(1)));
        let stored = plain.stored(1, at(20));
        assert!(stored.serves(at(19), Some(1)));
        assert!(!stored.serves(at(19), Some(2)));
        assert!(!stored.serves(at(19), None));
        assert!(!stored.serves(at(20), Some(1)));
    }
}
