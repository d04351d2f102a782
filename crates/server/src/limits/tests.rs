use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> Caller {
    Caller::Address(text.parse().unwrap())
}

fn limits(read: &str) -> Limits {
    Limits::new(&LimitsConfig {
        read: read.parse().unwrap(),
        ..LimitsConfig::default()
    })
}

/// The number of requests that are admitted of `of` at one time.
fn admitted(limits: &Limits, class: impl Into<ClassId> + Copy, caller: Caller, of: usize, now: Instant) -> usize {
    let charge = |_: &usize| !limits.charge(class.into(), caller, None, now).is_refused();
    (0..of).filter(charge).count()
}

#[test]
fn by_default_only_failed_logins_are_limited() {
    let limits = Limits::new(&LimitsConfig::default());
    let (caller, now) = (address("192.0.2.1"), Instant::now());
    for base in [Base::Read, Base::Write, Base::Admin] {
        assert_eq!(admitted(&limits, base, caller, 1000, now), 1000);
    }
    assert_eq!(admitted(&limits, Base::AuthFailures, caller, 1000, now), 2);
    let minute = Duration::from_secs(60);
    let later = (0..60).map(|second| now + Duration::from_secs(second) + minute);
    let admitted: usize = later
        .map(|now| admitted(&limits, Base::AuthFailures, caller, 10, now))
        .sum();
    assert!((20..=22).contains(&admitted), "{admitted}");
}

#[test]
fn a_refused_request_consumes_nothing_and_neither_does_a_look() {
    let (limits, now) = (limits("100/min"), Instant::now());
    let caller = Caller::Identity(1);
    for _ in 0..1000 {
        assert!(!limits.peek(Base::Read.into(), caller, now).is_refused());
    }
    assert_eq!(admitted(&limits, Base::Read, caller, 100_000, now), 10);
    assert!(limits.peek(Base::Read.into(), caller, now).is_refused());
    assert_eq!(
        admitted(&limits, Base::Read, caller, 100, now + Duration::from_secs(6)),
        10
    );
}

#[test]
fn callers_and_classes_have_their_own_buckets_and_addresses_of_one_network_share_theirs() {
    let mut config = LimitsConfig {
        read: "100/min".parse().unwrap(),
        write: "100/min".parse().unwrap(),
        ..LimitsConfig::default()
    };
    config.classes = "search=GET /users:100/min".parse().unwrap();
    let (limits, now) = (Limits::new(&config), Instant::now());
    let search = limits.class_of(&Method::GET, "/users", Base::Read);
    for caller in [
        Caller::Identity(1),
        Caller::Identity(2),
        address("192.0.2.1"),
        address("2001:db8::1"),
        address("2001:db8:0:1::1"),
    ] {
        for class in [Base::Read.into(), Base::Write.into(), search] {
            assert_eq!(admitted(&limits, class, caller, 50, now), 10, "{caller:?}");
        }
    }
    assert_eq!(admitted(&limits, search, address("2001:db8::ffff:1"), 50, now), 0);
    assert_eq!(admitted(&limits, search, address("::ffff:192.0.2.1"), 50, now), 0);
}

#[test]
fn a_key_with_limits_of_its_own_has_those() {
    let (limits, now) = (limits("100/min"), Instant::now());
    let overrides = Overrides::parse("read=1000/min burst=50").unwrap();
    let charge = |id, overrides| {
        !limits
            .charge(Base::Read.into(), Caller::Identity(id), overrides, now)
            .is_refused()
    };
    assert_eq!((0..100).filter(|_| charge(1, Some(&overrides))).count(), 50);
    assert_eq!((0..100).filter(|_| charge(2, None)).count(), 10);
    let off = Overrides::parse("read=off").unwrap();
    assert!((0..1000).all(|_| charge(2, Some(&off))));
    let other = Overrides::parse("write=1/d").unwrap();
    assert!(!charge(2, Some(&other)), "its limit for reads is that of the settings");
}

#[test]
fn newcomers_without_room_share_sixteen_times_the_limit_and_are_counted() {
    let mut config = LimitsConfig {
        read: "100/min".parse().unwrap(),
        ..LimitsConfig::default()
    };
    config.buckets = 64;
    let (limits, now) = (Limits::new(&config), Instant::now());
    let charge = |id: &u64| {
        let verdict = limits.charge(Base::Read.into(), Caller::Identity(*id), None, now);
        !verdict.is_refused()
    };
    let all = (0..100_000).filter(charge).count();
    let tracked = limits.stats(now).buckets_in_use;
    assert_eq!(tracked, 64);
    assert_eq!(all, tracked + 160);
    let stats = limits.stats(now);
    assert_eq!(stats.untracked, 100_000 - 64);
    assert_eq!(stats.refused[0], ("read".to_owned(), 100_000 - 64 - 160));
    assert_eq!(limits.stats(now + Duration::from_secs(60)).buckets_in_use, 0);
}

#[test]
fn in_any_minute_at_most_quota_and_burst_are_admitted_and_the_quota_in_the_long_run() {
    let (limits, start) = (limits("100/min burst=20"), Instant::now());
    let caller = address("192.0.2.1");
    let times = (0..600_000).step_by(50).map(Duration::from_millis);
    let passed = times.filter(|at| admitted(&limits, Base::Read, caller, 1, start + *at) == 1);
    let passed: Vec<_> = passed.collect();
    for (at, first) in passed.iter().enumerate() {
        let minute = passed[at..]
            .iter()
            .take_while(|time| **time < *first + Duration::from_secs(60));
        assert!(minute.count() <= 120);
    }
    assert!((980..=1020).contains(&passed.len()), "{} in 10 minutes", passed.len());
}

/// The table has a fixed size, so memory does not grow either.
#[test]
fn a_million_addresses_take_nothing_from_the_callers_that_are_tracked() {
    let (limits, now) = (limits("100/min"), Instant::now());
    let size = limits.table.size();
    let tracked: Vec<_> = (0..100).map(Caller::Identity).collect();
    for caller in &tracked {
        assert_eq!(admitted(&limits, Base::Read, *caller, 20, now), 10);
    }
    for number in 0..500_000_u32 {
        let network = u128::from(number) << 64;
        for address in [
            IpAddr::from(Ipv4Addr::from_bits(number)),
            IpAddr::from(Ipv6Addr::from_bits(network | 0x2001 << 112)),
        ] {
            let _verdict = limits.charge(Base::Read.into(), Caller::Address(address), None, now);
        }
    }
    assert_eq!(limits.table.size(), size);
    let stats = limits.stats(now);
    assert!(stats.untracked > 900_000, "{stats:?}");
    assert!(stats.buckets_in_use <= 65_536);
    for (caller, intervals) in tracked.iter().zip((1..10).cycle()) {
        let now = now + Duration::from_millis(600) * intervals;
        assert_eq!(admitted(&limits, Base::Read, *caller, 20, now), intervals as usize);
    }
}

#[test]
fn nothing_here_reads_a_clock_that_can_be_set() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/limits");
    let mut folders = vec![folder];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for clock in [
                concat!("System", "Time"),
                concat!("UNIX_", "EPOCH"),
                concat!("chr", "ono"),
            ] {
                assert!(!text.contains(clock), "{clock} in {}", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

proptest! {
    /// Each core reads the clock for itself, so the times that are passed in may go back. Even by an hour they admit nothing
    /// more, and nothing less afterwards.
    #[test]
    fn times_that_jump_by_an_hour_admit_what_the_latest_of_them_allows(
        steps in proptest::collection::vec((0..5_000_u64, prop_oneof![Just(0_i64), Just(-3_600_000), Just(3_600_000)]), 1..200),
    ) {
        let (limits, start) = (limits("100/min"), Instant::now());
        let caller = Caller::Identity(1);
        let (mut now, mut latest, mut count) = (0_u64, 0, 0);
        for (pause, step) in steps {
            now = (now + pause).saturating_add_signed(step);
            latest = latest.max(now);
            count += admitted(&limits, Base::Read, caller, 3, start + Duration::from_millis(now));
            prop_assert!(count as u64 <= 10 + latest / 600, "{count} until {latest} ms");
        }
        let later = start + Duration::from_millis(latest) + Duration::from_secs(6);
        prop_assert_eq!(admitted(&limits, Base::Read, caller, 20, later), 10);
    }
}

#[test]
fn a_key_that_gets_another_limit_begins_anew() {
    let limits = limits("100/min");
    let (caller, now) = (Caller::Identity(1), Instant::now());
    let admitted = |own: &str| {
        let own = Overrides::parse(own).unwrap();
        let is_admitted = || !limits.charge(Base::Read.into(), caller, Some(&own), now).is_refused();
        (0..50).filter(|_| is_admitted()).count()
    };
    assert_eq!(admitted("read=2/d burst=2"), 2);
    assert_eq!(admitted("read=2/d burst=2"), 0);
    assert_eq!(admitted("read=20/d burst=20"), 20);
}

#[test]
fn other_settings_leave_callers_their_buckets_where_the_limit_is_the_same() {
    let config = |read: &str, write: &str| LimitsConfig {
        read: read.parse().unwrap(),
        write: write.parse().unwrap(),
        ..LimitsConfig::default()
    };
    let (caller, now) = (Caller::Identity(1), Instant::now());
    let before = Limits::new(&config("5/h burst=5", "7/h burst=7"));
    assert_eq!(admitted(&before, Base::Read, caller, 100, now), 5);
    assert_eq!(admitted(&before, Base::Write, caller, 100, now), 7);
    let refused = |limits: &Limits| limits.stats(now).refused[0].1;
    let refused_before = refused(&before);
    let after = before.reconfigured(&config("50/h burst=50", "7/h burst=7")).unwrap();
    assert_eq!(admitted(&after, Base::Read, caller, 100, now), 50);
    assert_eq!(admitted(&after, Base::Write, caller, 100, now), 0);
    assert!(refused(&after) > refused_before, "the counts go on");
    let shared = LimitsConfig {
        shared_by: Some(2),
        ..config("5/h", "7/h")
    };
    assert!(Limits::new(&shared).reconfigured(&config("5/h", "7/h")).is_none());
}
