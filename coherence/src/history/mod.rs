//! Checks what readers and writers saw against the promises of a mode. Invariant: a history passes only if every operation in it
//! can be explained.
//!
//! The version of a row gives the order of its writes, so nothing needs to be searched: one sweep over a key's operations in the
//! order of time is enough. Record every operation of every instance with [`clock::now`](cenote_cache::clock::now) before the
//! call and after its return; instances on the same machine share that clock. Every write of a key must have a different value,
//! by which reads identify it.

mod known_writes;
mod operation;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use known_writes::{KnownWrites, Newest};
pub use operation::{Kind, Operation};

/// The promises of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// A read sees every write that was acknowledged this long before it. Writes through its own instance it sees at
    /// once.
    pub staleness: Duration,
    /// Whether reads of a key never go back.
    pub monotonic: bool,
}

/// An operation that cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}: {operation:?}")]
pub struct Violation {
    /// The operation.
    pub operation: Operation,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A read found less than had been acknowledged before.
    #[error("version {0} had been acknowledged before the read")]
    Stale(i64),
    /// A read found less than another read before it.
    #[error("version {0} had been seen before the read")]
    WentBack(i64),
    /// A read found a value that no write had begun to write, or under another version.
    #[error("no write had begun to write this before the read returned")]
    FromNowhere,
    /// A write got a version that does not fit its place in time.
    #[error("version {0} had been acknowledged or seen before the write, or it is another's")]
    NotNewer(i64),
}

/// Returns the operations of a history, in any order, that cannot be explained: by key and then in the order of time.
#[must_use]
pub fn check(history: &[Operation], promise: Promise) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut violations = Vec::new();
    for operations in keys.values_mut() {
        operations.sort_by_key(|operation| operation.invoked);
        let start = violations.len();
        check_key(operations, promise, &mut violations);
        violations[start..].sort_by_key(|violation| violation.operation.invoked);
    }
    violations
}

/// The operations of one key, in the order in which they were invoked.
fn check_key(operations: &[&Operation], promise: Promise, violations: &mut Vec<Violation>) {
    let mut blame = |operation: &Operation, fault| {
        violations.push(Violation {
            operation: operation.clone(),
            fault,
        });
    };
    let mut known = KnownWrites::new(operations);
    let acknowledged = known.acknowledged(|_| true);
    let instances: BTreeSet<_> = operations.iter().map(|it| it.instance).collect();
    let own: BTreeMap<_, _> = instances
        .into_iter()
        .map(|instance| (instance, known.acknowledged(|write| write.instance == instance)))
        .collect();

    let mut explained = Vec::new();
    for read in operations.iter().filter(|it| it.is_read()) {
        let everywhere = acknowledged.before(read.invoked, promise.staleness);
        let here = own[&read.instance].before(read.invoked, Duration::ZERO);
        let least = everywhere.max(here);
        match known.explain(read, least) {
            Some(version) => explained.push((*read, version)),
            None if known.explain(read, 0).is_some() => blame(read, Fault::Stale(least)),
            None => blame(read, Fault::FromNowhere),
        }
    }
    let seen = explained
        .iter()
        .map(|(read, version)| (read.returned.unwrap_or(read.invoked), *version));
    let seen = Newest::new(seen.collect());
    if promise.monotonic {
        for (read, version) in explained {
            let before = seen.before(read.invoked, Duration::ZERO);
            if version < before && known.explain(read, before).is_none() {
                blame(read, Fault::WentBack(before));
            }
        }
    }
    for (write, version) in known.told() {
        let before = |newest: &Newest| newest.before(write.invoked, Duration::ZERO);
        let least = before(&acknowledged).max(before(&seen));
        if *version <= least {
            blame(write, Fault::NotNewer(least));
        } else if !known.owns(write, *version) {
            blame(write, Fault::NotNewer(*version));
        }
    }
}

#[cfg(test)]
mod tests;
