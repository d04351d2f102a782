//! What is known of a key's writes. Invariant: a version belongs to one write and a write to one version. The version of a write
//! of unknown outcome is learnt from the reads that find it, in the order of time.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use super::operation::{Kind, Operation};
use cenote_cache::protocol::time::BootTime;

pub(super) struct KnownWrites<'a> {
    /// The writes that returned their version.
    told: Vec<(&'a Operation, i64)>,
    owners: HashMap<i64, Owner<'a>>,
    /// By digest, the writes without a known version, and the number of versions under which they were found.
    open: HashMap<u64, (Vec<&'a Operation>, usize)>,
    deletes: Vec<(&'a Operation, Option<i64>)>,
}

/// The write of a version.
enum Owner<'a> {
    /// The write that returned it.
    Told(&'a Operation),
    /// A write with this digest that returned nothing.
    Found(u64),
}

impl<'a> KnownWrites<'a> {
    /// From operations in the order in which they were invoked.
    pub(super) fn new(operations: &[&'a Operation]) -> Self {
        let mut known = Self {
            told: Vec::new(),
            owners: HashMap::new(),
            open: HashMap::new(),
            deletes: Vec::new(),
        };
        for write in operations {
            let Kind::Write { version, digest } = write.kind else {
                continue;
            };
            match (version, digest) {
                (Some(version), _) => {
                    known.told.push((write, version));
                    known.owners.entry(version).or_insert(Owner::Told(write));
                }
                (None, Some(digest)) => known.open.entry(digest).or_default().0.push(write),
                (None, None) => {}
            }
            if digest.is_none() {
                known.deletes.push((write, version));
            }
        }
        known
    }

    /// The writes that returned their version.
    pub(super) fn told(&self) -> &[(&'a Operation, i64)] {
        &self.told
    }

    /// Whether no other write has this version.
    pub(super) fn owns(&self, write: &Operation, version: i64) -> bool {
        let owner = self.owners.get(&version);
        matches!(owner, Some(Owner::Told(owner)) if std::ptr::eq(*owner, write))
    }

    /// The newest acknowledged version of these writes, by time.
    pub(super) fn acknowledged(&self, of: impl Fn(&Operation) -> bool) -> Newest {
        let acknowledged = |(write, version): &(&Operation, i64)| of(write).then_some((write.returned?, *version));
        Newest::new(self.told.iter().filter_map(acknowledged).collect())
    }

    /// The version that a read found, if it is possible and at least `least`. If no row was found, several deletes may explain
    /// it: then the smallest possible version.
    pub(super) fn explain(&mut self, read: &Operation, least: i64) -> Option<i64> {
        let begun = |write: &Operation| read.returned.is_none_or(|at| write.invoked < at);
        match read.kind {
            Kind::Read(Some((found, digest))) => {
                (found >= least && self.is_value_of(found, digest, begun)).then_some(found)
            }
            Kind::Read(None) if least <= 0 => Some(0),
            Kind::Read(None) => {
                let deleted = self.deletes.iter().filter(|(write, _)| begun(write));
                let versions = deleted.map(|(_, it)| it.unwrap_or_else(|| self.free(least)));
                versions.filter(|it| *it >= least).min()
            }
            Kind::Write { .. } => None,
        }
    }

    /// Whether this version can belong to a write of this value that had begun.
    fn is_value_of(&mut self, version: i64, digest: u64, begun: impl Fn(&Operation) -> bool) -> bool {
        let open = self.open.get_mut(&digest);
        let begun_of = |writes: &[&Operation]| writes.iter().filter(|it| begun(it)).count();
        match (self.owners.entry(version), open) {
            (Entry::Occupied(owner), open) => match owner.get() {
                Owner::Told(write) => begun(write) && wrote(write, digest),
                Owner::Found(found) => *found == digest && open.is_some_and(|(writes, _)| begun_of(writes) > 0),
            },
            (Entry::Vacant(owner), Some((writes, found))) if *found < begun_of(writes) => {
                owner.insert(Owner::Found(digest));
                *found += 1;
                true
            }
            (Entry::Vacant(_), _) => false,
        }
    }

    /// The smallest version, at least `least`, that a delete of unknown outcome can have.
    fn free(&self, least: i64) -> i64 {
        let mut versions = least..;
        let free = versions.find(|version| !self.owners.contains_key(version));
        free.unwrap_or(i64::MAX)
    }
}

fn wrote(write: &Operation, value: u64) -> bool {
    matches!(write.kind, Kind::Write { digest, .. } if digest == Some(value))
}

/// The largest version up to each time.
pub(super) struct Newest(Vec<(BootTime, i64)>);

impl Newest {
    pub(super) fn new(mut versions: Vec<(BootTime, i64)>) -> Self {
        versions.sort_unstable();
        let mut largest = 0;
        for (_, version) in &mut versions {
            largest = largest.max(*version);
            *version = largest;
        }
        Self(versions)
    }

    /// The largest version more than `staleness` before this time; 0 if there is none.
    pub(super) fn before(&self, moment: BootTime, staleness: Duration) -> i64 {
        let count = self
            .0
            .partition_point(|(at, _)| *at < moment && moment.since(*at) > staleness);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}
