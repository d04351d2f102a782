use cenote_cache::protocol::time::BootTime;

use super::*;

const STRICT: Promise = Promise {
    staleness: Duration::ZERO,
    monotonic: true,
};

fn at(seconds: u64) -> BootTime {
    BootTime::from_clock(Duration::from_secs(seconds))
}

fn operation(invoked: u64, returned: Option<u64>, kind: Kind) -> Operation {
    Operation {
        key: "key".into(),
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
    check(history, promise).first().map(|violation| violation.fault)
}

#[test]
fn a_read_beside_a_write_may_find_either() {
    for found in [1, 2] {
        let history = [write(0, Some(1), 1), write(2, Some(5), 2), read(3, 4, Some(found))];
        assert_eq!(fault(&history, STRICT), None);
    }
}

#[test]
fn a_read_after_an_acknowledgement_must_not_find_less() {
    let history = [write(0, Some(1), 1), write(2, Some(3), 2), read(4, 5, Some(1))];
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
    let late = |invoked| [write(0, Some(1), 1), elsewhere.clone(), read(invoked, 20, Some(1))];
    assert_eq!(fault(&late(8), bounded), None);
    assert_eq!(fault(&late(9), bounded), Some(Fault::Stale(2)));
    let here = [write(0, Some(1), 1), write(2, Some(3), 2), read(4, 5, Some(1))];
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
        let history = [write(0, Some(1), 1), write(2, None, 2), read(50, 51, Some(found))];
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

#[test]
fn every_violation_is_told_and_does_not_hide_the_next() {
    let history = [
        write(0, Some(1), 1),
        write(2, Some(3), 2),
        read(4, 5, Some(1)),
        read(6, 7, Some(9)),
        read(8, 9, None),
        read(10, 11, Some(2)),
    ];
    let faults: Vec<_> = check(&history, STRICT).iter().map(|it| it.fault).collect();
    assert_eq!(faults, [Fault::Stale(2), Fault::FromNowhere, Fault::Stale(2)]);
}

#[test]
fn a_delete_of_unknown_outcome_may_show_up_and_then_stays() {
    let mut deleted = delete(2, 3, 2);
    deleted.returned = None;
    deleted.kind = Kind::Write {
        version: None,
        digest: None,
    };
    let mut history = vec![write(0, Some(1), 1), deleted, read(50, 51, Some(1))];
    assert_eq!(fault(&history, STRICT), None);
    history.push(read(60, 61, None));
    assert_eq!(fault(&history, STRICT), None);
    let again = [&history[..], &[write(70, Some(71), 3), read(80, 81, Some(3))]].concat();
    assert_eq!(fault(&again, STRICT), None);
    history.push(read(70, 71, Some(1)));
    assert_eq!(fault(&history, STRICT), Some(Fault::WentBack(2)));
}

#[test]
fn a_write_of_unknown_outcome_is_found_in_one_version() {
    let unknown = || {
        let kind = Kind::Write {
            version: None,
            digest: Some(7),
        };
        operation(2, None, kind)
    };
    let found = |at, version| operation(at, Some(at + 1), Kind::Read(Some((version, 7))));
    let history = [unknown(), found(10, 3), found(20, 3)];
    assert_eq!(fault(&history, STRICT), None);
    let twice = [unknown(), found(10, 3), found(20, 4)];
    assert_eq!(fault(&twice, STRICT), Some(Fault::FromNowhere));
    let early = [unknown(), found(0, 3)];
    assert_eq!(fault(&early, STRICT), Some(Fault::FromNowhere));
}

#[test]
fn a_write_gets_a_version_above_what_was_there_and_of_its_own() {
    let behind = [write(0, Some(1), 5), write(2, Some(3), 4)];
    assert_eq!(fault(&behind, STRICT), Some(Fault::NotNewer(5)));
    let seen = [write(0, Some(9), 5), read(1, 2, Some(5)), write(3, Some(9), 4)];
    assert_eq!(fault(&seen, STRICT), Some(Fault::NotNewer(5)));
    let mut same = write(2, Some(9), 5);
    same.kind = Kind::Write {
        version: Some(5),
        digest: Some(6),
    };
    let shared = [write(0, Some(9), 5), same];
    assert_eq!(fault(&shared, STRICT), Some(Fault::NotNewer(5)));
}
