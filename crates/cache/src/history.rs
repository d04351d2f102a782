//! Checks what readers and writers saw against what a mode promises. Invariant: a history passes only if every read in it
//! can be explained.
//!
//! The version of a row gives the order of its writes, so there is nothing to search: one sweep over a key's operations
//! in the order of time is enough. Record every operation of every instance with [`clock::now`](crate::clock::now)
//! before it is called and after it returned; instances on the same machine share that clock.

use std::{collections::BTreeMap, time::Duration};

use crate::moment::Moment;

/// One read or write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was read or written.
    pub key: String,
    /// Through which instance.
    pub instance: usize,
    /// Before it was called.
    pub invoked: Moment,
    /// After it returned. `None` for a write of which it is not known whether it took place, and for one that is not
    /// settled: it may show up at any time.
    pub returned: Option<Moment>,
    /// What it was.
    pub kind: Kind,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Found a version with this digest of its value; `None` if there was no row.
    Read(Option<(i64, u64)>),
    /// Wrote a value with this digest, `None` to delete the row, and was told its version, if it was told anything.
    Write {
        /// The version.
        version: Option<i64>,
        /// The digest of the value.
        digest: Option<u64>,
    },
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// A read sees every write that was acknowledged this long before it. Writes through its own instance it sees at
    /// once.
    pub staleness: Duration,
    /// Whether reads of a key never go back.
    pub monotonic: bool,
}

/// A read that cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {read:?}")]
pub struct Violation {
    /// The read.
    pub read: Operation,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It found less than had been acknowledged before.
    #[error("version {0} had been acknowledged before the read")]
    Stale(i64),
    /// It found less than another read before it.
    #[error("version {0} had been seen before the read")]
    WentBack(i64),
    /// It found what nobody had begun to write.
    #[error("nobody had begun to write this before the read returned")]
    FromNowhere,
}

/// Checks a history, in any order.
///
/// # Errors
/// The first read of the first key, by name, that cannot be explained.
pub fn check(history: &[Operation], promise: Promise) -> Result<(), Violation> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys.values()
        .try_for_each(|operations| check_key(operations, promise))
}

fn check_key(operations: &[&Operation], promise: Promise) -> Result<(), Violation> {
    let mut reads: Vec<_> = operations
        .iter()
        .filter(|operation| matches!(operation.kind, Kind::Read(_)))
        .copied()
        .collect();
    reads.sort_by_key(|read| read.invoked);
    let written = Written::new(operations);
    let acknowledged = Newest::new(written.acknowledged(|_| true));
    let instances: std::collections::BTreeSet<_> = operations
        .iter()
        .map(|operation| operation.instance)
        .collect();
    let own: BTreeMap<_, _> = instances
        .into_iter()
        .map(|instance| {
            let of_instance = written.acknowledged(|write| write.instance == instance);
            (instance, Newest::new(of_instance))
        })
        .collect();
    let mut seen: Vec<(Moment, i64)> = Vec::new();
    for read in &reads {
        let violation = |fault| Violation {
            read: (*read).clone(),
            fault,
        };
        let everywhere = acknowledged.before(read.invoked, promise.staleness);
        let here = own[&read.instance].before(read.invoked, Duration::ZERO);
        let least = everywhere.max(here);
        let version = written.explain(read, least).ok_or(match &read.kind {
            Kind::Read(Some((version, _))) if *version < least => Fault::Stale(least),
            Kind::Read(None) if least > 0 => Fault::Stale(least),
            _ => Fault::FromNowhere,
        });
        seen.push((
            read.returned.unwrap_or(read.invoked),
            version.map_err(violation)?,
        ));
    }
    if !promise.monotonic {
        return Ok(());
    }
    let newest = Newest::new(seen.clone());
    for (read, (_, version)) in reads.iter().zip(&seen) {
        let before = newest.before(read.invoked, Duration::ZERO);
        if *version < before && written.explain(read, before).is_none() {
            return Err(Violation {
                read: (*read).clone(),
                fault: Fault::WentBack(before),
            });
        }
    }
    Ok(())
}

/// The writes of a key.
struct Written<'a>(Vec<(&'a Operation, Option<i64>, Option<u64>)>);

impl<'a> Written<'a> {
    fn new(operations: &[&'a Operation]) -> Self {
        let write = |operation: &&'a Operation| match operation.kind {
            Kind::Write { version, digest } => Some((*operation, version, digest)),
            Kind::Read(_) => None,
        };
        Self(operations.iter().filter_map(write).collect())
    }

    /// When which version was acknowledged.
    fn acknowledged(&self, of: impl Fn(&Operation) -> bool) -> Vec<(Moment, i64)> {
        let acknowledged = |(write, version, _): &(&Operation, Option<i64>, _)| {
            of(write).then_some((write.returned?, (*version)?))
        };
        self.0.iter().filter_map(acknowledged).collect()
    }

    /// The version that a read can have found, at least this one; the smallest if that is open.
    fn explain(&self, read: &Operation, least: i64) -> Option<i64> {
        let begun = |write: &Operation| read.returned.is_none_or(|at| write.invoked < at);
        match read.kind {
            Kind::Read(Some((found, digest))) => {
                let explains =
                    |(write, version, wrote): &(&Operation, Option<i64>, Option<u64>)| {
                        begun(write)
                            && *wrote == Some(digest)
                            && version.is_none_or(|it| it == found)
                    };
                (found >= least && self.0.iter().any(explains)).then_some(found)
            }
            Kind::Read(None) => {
                let deleted = self.0.iter().filter_map(|(write, version, wrote)| {
                    (begun(write) && wrote.is_none()).then_some(version.unwrap_or(i64::MAX))
                });
                deleted.chain([0]).filter(|it| *it >= least).min()
            }
            Kind::Write { .. } => None,
        }
    }
}

/// The largest version until each moment.
struct Newest(Vec<(Moment, i64)>);

impl Newest {
    fn new(mut versions: Vec<(Moment, i64)>) -> Self {
        versions.sort_unstable();
        let mut largest = 0;
        for (_, version) in &mut versions {
            largest = largest.max(*version);
            *version = largest;
        }
        Self(versions)
    }

    /// The largest version more than `staleness` before the moment; 0 if there is none.
    fn before(&self, moment: Moment, staleness: Duration) -> i64 {
        let count = self
            .0
            .partition_point(|(at, _)| *at < moment && moment.since(*at) > staleness);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Promise = Promise {
        staleness: Duration::ZERO,
        monotonic: true,
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_clock(Duration::from_secs(seconds))
    }

    fn operation(invoked: u64, returned: Option<u64>, kind: Kind) -> Operation {
        Operation {
            key: "key".to_owned(),
            instance: 0,
            invoked: at(invoked),
            returned: returned.map(at),
            kind,
        }
    }

    fn write(invoked: u64, returned: Option<u64>, version: i64) -> Operation {
        let (version, digest) = (returned.map(|_| version), Some(version.unsigned_abs()));
        operation(invoked, returned, Kind::Write { version, digest })
    }

    fn delete(invoked: u64, returned: u64, version: i64) -> Operation {
        let (version, digest) = (Some(version), None);
        operation(invoked, Some(returned), Kind::Write { version, digest })
    }

    fn read(invoked: u64, returned: u64, found: Option<i64>) -> Operation {
        let found = found.map(|version| (version, version.unsigned_abs()));
        operation(invoked, Some(returned), Kind::Read(found))
    }

    fn fault(history: &[Operation], promise: Promise) -> Option<Fault> {
        check(history, promise)
            .err()
            .map(|violation| violation.fault)
    }

    #[test]
    fn a_read_beside_a_write_may_find_either() {
        for found in [1, 2] {
            let history = [
                write(0, Some(1), 1),
                write(2, Some(5), 2),
                read(3, 4, Some(found)),
            ];
            assert_eq!(fault(&history, STRICT), None);
        }
    }

    #[test]
    fn a_read_after_an_acknowledgement_must_not_find_less() {
        let history = [
            write(0, Some(1), 1),
            write(2, Some(3), 2),
            read(4, 5, Some(1)),
        ];
        assert_eq!(fault(&history, STRICT), Some(Fault::Stale(2)));
        let history = [write(0, Some(1), 1), read(4, 5, None)];
        assert_eq!(fault(&history, STRICT), Some(Fault::Stale(1)));
    }

    #[test]
    fn a_bound_lets_others_be_behind_but_not_the_own_instance() {
        let bounded = Promise {
            staleness: Duration::from_secs(5),
            monotonic: false,
        };
        let mut elsewhere = write(2, Some(3), 2);
        elsewhere.instance = 1;
        let late = |invoked| {
            [
                write(0, Some(1), 1),
                elsewhere.clone(),
                read(invoked, 20, Some(1)),
            ]
        };
        assert_eq!(fault(&late(8), bounded), None);
        assert_eq!(fault(&late(9), bounded), Some(Fault::Stale(2)));
        let here = [
            write(0, Some(1), 1),
            write(2, Some(3), 2),
            read(4, 5, Some(1)),
        ];
        assert_eq!(fault(&here, bounded), Some(Fault::Stale(2)));
    }

    #[test]
    fn reads_must_not_go_back_even_before_the_acknowledgement() {
        let history = [
            write(0, Some(1), 1),
            write(2, Some(9), 2),
            read(3, 4, Some(2)),
            read(5, 6, Some(1)),
        ];
        assert_eq!(fault(&history, STRICT), Some(Fault::WentBack(2)));
        let only_fresh = Promise {
            monotonic: false,
            ..STRICT
        };
        assert_eq!(fault(&history, only_fresh), None);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_show_up_at_any_time_or_never() {
        for found in [1, 2] {
            let history = [
                write(0, Some(1), 1),
                write(2, None, 2),
                read(50, 51, Some(found)),
            ];
            assert_eq!(fault(&history, STRICT), None);
        }
    }

    #[test]
    fn what_nobody_wrote_is_not_found() {
        assert_eq!(
            fault(&[read(0, 1, Some(1)), write(2, Some(3), 1)], STRICT),
            Some(Fault::FromNowhere)
        );
        let mut other_value = read(4, 5, None);
        other_value.kind = Kind::Read(Some((1, 77)));
        assert_eq!(
            fault(&[write(0, Some(1), 1), other_value], STRICT),
            Some(Fault::FromNowhere)
        );
    }

    #[test]
    fn a_deleted_row_is_absent_until_it_is_written_again() {
        let history = [
            read(0, 1, None),
            write(2, Some(3), 1),
            delete(4, 5, 2),
            read(6, 7, None),
        ];
        assert_eq!(fault(&history, STRICT), None);
        let again = [&history[..], &[write(8, Some(9), 3), read(10, 11, None)]].concat();
        assert_eq!(fault(&again, STRICT), Some(Fault::Stale(3)));
    }
}
