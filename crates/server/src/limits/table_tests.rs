use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// 100 a minute, with a burst of 10.
const RATE: Rate = Rate {
    interval: 600_000_000,
    tolerance: 6_000_000_000,
};

/// Identities that share the set of number 0 in a table of any size.
fn neighbour(number: u64) -> u64 {
    number << 32
}

fn charge(table: &Table, identity: u64, rates: &[Rate], now: u64) -> Decision {
    table.charge(identity, Terms { rates, leases: &[] }, now)
}

fn admitted(table: &Table, identity: u64, rates: &[Rate], now: u64) -> bool {
    charge(table, identity, rates, now).outcome == Outcome::Admitted
}

fn is_refused(table: &Table, identity: u64, rates: &[Rate], now: u64) -> bool {
    matches!(charge(table, identity, rates, now).outcome, Outcome::Refused(_))
}

#[test]
fn each_caller_has_its_burst_and_then_one_request_each_interval() {
    let table = Table::new(1024);
    for identity in [1, 2, neighbour(1), neighbour(2)] {
        for spent in 1..=10 {
            let decision = charge(&table, identity, &[RATE], SECOND);
            assert_eq!(decision.outcome, Outcome::Admitted);
            assert_eq!(decision.ahead[0], spent * RATE.interval);
        }
        for _ in 0..3 {
            assert!(is_refused(&table, identity, &[RATE], SECOND));
        }
        assert!(!admitted(&table, identity, &[RATE], SECOND + RATE.interval - 1));
        assert!(admitted(&table, identity, &[RATE], SECOND + RATE.interval));
        assert!(!admitted(&table, identity, &[RATE], SECOND + RATE.interval));
    }
}

#[test]
fn a_refusal_by_one_window_charges_none() {
    let table = Table::new(64);
    let short = Rate::new(SECOND, 2);
    let long = Rate::new(60 * SECOND, 3);
    let both = [short, long];
    assert!(admitted(&table, 7, &both, 0) && admitted(&table, 7, &both, 0));
    for _ in 0..100 {
        let decision = charge(&table, 7, &both, 0);
        let Outcome::Refused(windows) = decision.outcome else {
            panic!("admitted");
        };
        assert!(windows.contains(0) && !windows.contains(1));
        assert_eq!(decision.ahead[..2], [2 * SECOND, 120 * SECOND]);
    }
    assert!(admitted(&table, 7, &both, SECOND), "the third of the long window");
    // Refused by the long window: the short one stays as it is.
    for now in [2 * SECOND, 3 * SECOND] {
        let decision = charge(&table, 7, &both, now);
        let Outcome::Refused(windows) = decision.outcome else {
            panic!("admitted");
        };
        assert!(windows.contains(1));
        assert_eq!(decision.ahead[0], (3 * SECOND).saturating_sub(now));
    }
}

#[test]
fn a_look_charges_nothing() {
    let table = Table::new(64);
    let terms = Terms {
        rates: &[RATE],
        leases: &[],
    };
    let look = || table.peek(7, terms, 0).outcome;
    for _ in 0..100 {
        assert_eq!(look(), Outcome::Admitted);
    }
    assert_eq!(table.in_use(0), 0);
    while admitted(&table, 7, &[RATE], 0) {}
    assert!(matches!(look(), Outcome::Refused(_)));
    assert_eq!(table.in_use(0), 1);
    assert_eq!(table.in_use(6 * SECOND), 0);
}

#[test]
fn a_bucket_in_use_is_never_forgotten_and_a_newcomer_finds_no_room() {
    let table = Table::new(64);
    let rates = [RATE, Rate::new(3600 * SECOND, 1)];
    // Three callers of two windows and two of one window fill the set.
    for caller in 1..=3 {
        assert!(admitted(&table, neighbour(caller), &rates, SECOND));
    }
    for caller in 4..=5 {
        assert!(admitted(&table, neighbour(caller), &[RATE], SECOND));
    }
    assert_eq!(charge(&table, neighbour(6), &[RATE], SECOND).outcome, Outcome::NoRoom);
    // The short windows of all are full again, but only callers 4 and 5 are.
    let later = SECOND + RATE.interval;
    assert_eq!(table.in_use(later), 3);
    assert!(admitted(&table, neighbour(6), &rates, later));
    assert_eq!(charge(&table, neighbour(7), &[RATE], later).outcome, Outcome::NoRoom);
    for caller in 1..=3 {
        assert!(is_refused(&table, neighbour(caller), &rates, later));
    }
}

#[test]
fn the_table_of_the_default_size_takes_less_than_two_mebibytes() {
    let table = Table::new(65_536);
    assert_eq!(table.sets.len() * WAYS, 65_536);
    assert!(table.size() <= 2 << 20, "{}", table.size());
}

/// Threads with clocks that differ charge a few callers of one set, others push in.
#[test]
fn threads_together_admit_no_more_than_one_would() {
    const THREADS: u64 = 8;
    const CHARGES: u64 = 40_000;
    let table = Table::new(64);
    let rate = Rate::new(1_000, 5);
    let long = Rate::new(10_000, 300);
    let clock = AtomicU64::new(1);
    // Three callers of two windows leave two entries of the set to newcomers.
    let counts: [AtomicU64; 3] = Default::default();
    for (caller, count) in counts.iter().enumerate() {
        assert!(admitted(&table, neighbour(1 + caller as u64), &[rate, long], 1));
        count.fetch_add(1, Relaxed);
    }
    thread::scope(|threads| {
        for thread in 0..THREADS {
            let (table, clock, counts) = (&table, &clock, &counts);
            threads.spawn(move || {
                for round in 0..CHARGES {
                    let now = clock.fetch_add(7, Relaxed) - thread % 2;
                    let caller = round % 3;
                    if admitted(table, neighbour(1 + caller), &[rate, long], now) {
                        counts[caller as usize].fetch_add(1, Relaxed);
                    }
                    let newcomer = neighbour(100 + round * THREADS + thread);
                    charge(table, newcomer, &[rate], now);
                }
            });
        }
    });
    let elapsed = clock.load(Relaxed);
    let most = 300 + elapsed / long.interval;
    for count in counts {
        let count = count.into_inner();
        assert!(count <= most && count >= most - 10, "{count} of {most}");
    }
}

const LEASE_OF_4: Terms<'_> = Terms {
    rates: &[RATE],
    leases: &[Lease { most: 4, kept: 2 }],
};

/// The number of requests to be reported; `None` if it is refused.
fn due(table: &Table, now: u64) -> Option<u32> {
    let decision = table.charge(7, LEASE_OF_4, now);
    (decision.outcome == Outcome::Admitted).then_some(decision.due[0])
}

fn all_due<const N: usize>(table: &Table, now: u64) -> [Option<u32>; N] {
    std::array::from_fn(|_| due(table, now))
}

#[test]
fn of_a_shared_limit_a_lease_is_admitted_before_redis_answers_and_reported_when_half_is_spent() {
    let table = Table::new(64);
    let reports = all_due(&table, SECOND);
    assert_eq!(reports, [Some(0), Some(0), Some(3), Some(0), None, None]);
    // Other instances have admitted 3 as well, and one here is unreported.
    let ahead = 6 * RATE.interval;
    table.settle(7, 0, RATE.interval, ReportEnd::Known { ahead }, SECOND);
    let reports = all_due(&table, SECOND);
    assert_eq!(reports, [Some(0), Some(3), Some(0), None, None]);
    // Redis has lost all: the bucket here is not filled by that.
    table.settle(7, 0, RATE.interval, ReportEnd::Known { ahead: 0 }, SECOND);
    assert_eq!(due(&table, SECOND), None);
    assert_eq!(due(&table, SECOND + RATE.interval), Some(0));
}

#[test]
fn a_lost_report_is_made_once_more_even_if_the_caller_is_refused_meanwhile() {
    let table = Table::new(64);
    assert_eq!(all_due(&table, SECOND), [Some(0), Some(0), Some(3)]);
    table.settle(7, 0, RATE.interval, ReportEnd::Lost, SECOND);
    assert_eq!(due(&table, SECOND), Some(4), "the lost ones, and one more");
    assert_eq!(due(&table, SECOND), None);
    table.settle(7, 0, RATE.interval, ReportEnd::Lost, SECOND);
    // By a look as well: refused logins are not charged.
    for decide in [Table::charge, Table::peek] {
        let refused = decide(&table, 7, LEASE_OF_4, SECOND);
        assert!(matches!(refused.outcome, Outcome::Refused(_)));
        assert_eq!(refused.due[0], 4);
        assert_eq!(table.charge(7, LEASE_OF_4, SECOND).due[0], 0, "one is under way");
        table.settle(7, 0, RATE.interval, ReportEnd::Lost, SECOND);
    }
    assert_eq!(table.peek(7, LEASE_OF_4, SECOND).due[0], 4);
    let ahead = 4 * RATE.interval;
    table.settle(7, 0, RATE.interval, ReportEnd::Known { ahead }, SECOND);
    assert_eq!(due(&table, SECOND), Some(0));
    // A report about a bucket that was forgotten changes nothing.
    table.settle(8, 0, RATE.interval, ReportEnd::Lost, SECOND);
    assert_eq!(table.in_use(SECOND), 1);
}

proptest! {
    /// Any callers, at any times: each gets what it would get alone in an endless table, or finds no room.
    #[test]
    fn callers_in_a_full_set_get_what_they_would_get_alone(
        requests in proptest::collection::vec((0..12_u64, 0..3 * RATE.interval), 1..300),
    ) {
        let table = Table::new(64);
        let long = Rate::new(4 * RATE.interval, 7);
        let mut alone = [[0; 2]; 12];
        let mut now = 1;
        for (caller, pause) in requests {
            now += pause / 4;
            let rates = &[RATE, long][..1 + caller as usize % 2];
            let tats = &mut alone[caller as usize];
            let would = rates.iter().zip(&*tats).all(|(rate, tat): (&Rate, &u64)| rate.admits(tat.saturating_sub(now)));
            match charge(&table, neighbour(1 + caller), rates, now).outcome {
                Outcome::Admitted => {
                    prop_assert!(would);
                    for (rate, tat) in rates.iter().zip(tats) {
                        *tat = now.max(*tat) + rate.interval;
                    }
                }
                Outcome::Refused(_) => prop_assert!(!would),
                Outcome::NoRoom => prop_assert!(tats.iter().all(|tat| *tat <= now), "a caller in use is tracked"),
            }
        }
    }
}
