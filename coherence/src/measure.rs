//! Times and counts from the clients' records. Invariant: the downtime of an instance does not count against it, nor,
//! for writes, that of the database.

use std::{iter::zip, time::Duration};

use crate::history::{Kind, Operation};
use cenote_cache::protocol::time::BootTime;

use crate::{
    downtime::{Absence, Downtime},
    record::{Record, Slow},
};

/// The longest time in which an instance acknowledged no write. The clients send writes all the time.
pub(crate) fn longest_stall(
    records: &[Record],
    instances: usize,
    downtime: &Downtime,
    start: BootTime,
    end: BootTime,
) -> Duration {
    let of_instance = |instance: usize| {
        let absences = downtime.of_writes(instance);
        let acknowledged = records.iter().filter_map(|Record { operation, .. }| {
            (operation.instance == instance && is_write(operation)).then_some(operation.returned?)
        });
        let edges = absences.iter().flat_map(|it| [it.from, it.until]);
        let moments = acknowledged.chain(edges).chain([start, end]);
        let mut moments: Vec<_> = moments.filter(|it| (start..=end).contains(it)).collect();
        moments.sort_unstable();
        let gaps = zip(&moments, moments.iter().skip(1)).filter(|(from, until)| {
            let within = |it: &Absence| it.from <= **from && **until <= it.until;
            !absences.iter().any(within)
        });
        gaps.map(|(from, until)| until.since(*from)).max()
    };
    let stalls = (0..instances).filter_map(of_instance);
    stalls.max().unwrap_or_default()
}

/// The time from this moment until every instance has acknowledged a write and, if it has a cache, answered from it.
pub(crate) fn recovery(records: &[Record], instances: usize, caches: bool, lifted: BootTime) -> Option<Duration> {
    let mut latest = Duration::ZERO;
    for instance in 0..instances {
        let first = |is_wanted: &dyn Fn(&Record) -> bool| {
            let after = records.iter().filter(|record| {
                let operation = &record.operation;
                operation.instance == instance && operation.invoked >= lifted && is_wanted(record)
            });
            let returned = after.filter_map(|record| record.operation.returned);
            returned.min().map(|at| at.since(lifted))
        };
        latest = latest.max(first(&|record| is_write(&record.operation))?);
        if caches {
            latest = latest.max(first(&|record| record.is_hit)?);
        }
    }
    Some(latest)
}

/// The slowest request whose instance was up the whole time.
pub(crate) fn slowest(slow: &[Slow], downtime: &Downtime) -> Option<Slow> {
    let undisturbed = |slow: &&Slow| {
        let mut absences = downtime.of(slow.instance).into_iter();
        !absences.any(|it| it.from < slow.ended && slow.invoked < it.until)
    };
    let undisturbed = slow.iter().filter(undisturbed);
    undisturbed.copied().max_by_key(|it| it.ended.since(it.invoked))
}

/// The number of requests, of reads among them, and of hits among the reads.
pub(crate) fn counts(records: &[Record]) -> (usize, usize, usize) {
    let reads = records.iter().filter(|it| !is_write(&it.operation)).count();
    let hits = records.iter().filter(|it| it.is_hit).count();
    (records.len(), reads, hits)
}

fn is_write(operation: &Operation) -> bool {
    matches!(operation.kind, Kind::Write { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downtime::Who;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_secs(seconds))
    }

    fn record(instance: usize, returned: u64, kind: Kind, is_hit: bool) -> Record {
        let operation = Operation {
            key: "key".into(),
            instance,
            invoked: at(returned - 1),
            returned: Some(at(returned)),
            kind,
        };
        Record { operation, is_hit }
    }

    fn write(instance: usize, returned: u64) -> Record {
        let kind = Kind::Write {
            version: Some(1),
            digest: None,
        };
        record(instance, returned, kind, false)
    }

    #[test]
    fn a_stall_is_of_one_instance_and_not_while_it_is_away() {
        let records = [write(0, 12), write(0, 13), write(0, 19), write(1, 18)];
        let stall = |downtime: &Downtime| longest_stall(&records, 2, downtime, at(10), at(20));
        let downtime = Downtime::default();
        assert_eq!(stall(&downtime), Duration::from_secs(8));
        downtime.note(Who::Instance(1), at(11), at(15));
        assert_eq!(stall(&downtime), Duration::from_secs(6));
        downtime.note(Who::Database, at(14), at(18));
        assert_eq!(stall(&downtime), Duration::from_secs(2));
    }

    #[test]
    fn all_instances_recover_or_none_has() {
        let hit = |instance, returned| record(instance, returned, Kind::Read(None), true);
        let records = [write(0, 12), write(1, 14), hit(0, 13), hit(1, 17), hit(1, 9)];
        assert_eq!(recovery(&records, 2, true, at(10)), Some(Duration::from_secs(7)));
        assert_eq!(recovery(&records, 2, false, at(10)), Some(Duration::from_secs(4)));
        assert_eq!(recovery(&records[..3], 2, true, at(10)), None);
    }

    #[test]
    fn who_is_away_need_not_answer() {
        let slow = |instance, invoked, ended| Slow {
            instance,
            invoked: at(invoked),
            ended: at(ended),
            is_answered: true,
        };
        let slow = [slow(0, 10, 20), slow(1, 10, 15)];
        let downtime = Downtime::default();
        assert_eq!(slowest(&slow, &downtime).map(|it| it.instance), Some(0));
        downtime.note(Who::Instance(0), at(12), at(13));
        assert_eq!(slowest(&slow, &downtime).map(|it| it.instance), Some(1));
    }
}
