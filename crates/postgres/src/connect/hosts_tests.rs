//! The order of hosts, whatever happened to them.

use proptest::prelude::*;

use super::*;

const PRIMARY: ServerRole = ServerRole {
    standby: false,
    read_only: false,
};
const STANDBY: ServerRole = ServerRole {
    standby: true,
    read_only: true,
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Indices in the order in which to try them, and how many of them are not in backoff.
fn tried(hosts: &mut [HostRecord], wanted: TargetSession, now: Duration) -> (Vec<usize>, usize) {
    let none: Option<fn(&mut [Candidate])> = None;
    let candidates = order(hosts.iter_mut(), wanted, now, none);
    let ready = candidates.iter().filter(|candidate| !candidate.in_backoff).count();
    (candidates.iter().map(|candidate| candidate.index).collect(), ready)
}

#[test]
fn what_is_not_known_is_tried_as_listed() {
    let mut hosts = vec![HostRecord::default(); 3];
    for wanted in [TargetSession::Any, TargetSession::Primary] {
        assert_eq!(tried(&mut hosts, wanted, secs(0)), (vec![0, 1, 2], 3));
    }
}

#[test]
fn a_host_that_failed_is_tried_last_for_longer_and_longer_then_by_one_connect() {
    let mut hosts = vec![HostRecord::default(); 2];
    let mut now = secs(100);
    for backoff in [1, 2, 4, 8, 16, 30, 30] {
        hosts[0].failed(now);
        now += secs(backoff) - Duration::from_millis(1);
        assert_eq!(tried(&mut hosts, TargetSession::Any, now), (vec![1, 0], 1));
        now += Duration::from_millis(1);
        assert_eq!(tried(&mut hosts, TargetSession::Any, now), (vec![0, 1], 2));
        // While that one tries, the others leave it alone.
        assert_eq!(tried(&mut hosts, TargetSession::Any, now), (vec![1, 0], 1));
    }
    hosts[0].answered(PRIMARY);
    assert_eq!(tried(&mut hosts, TargetSession::Any, now), (vec![0, 1], 2));
}

#[test]
fn the_host_that_last_had_the_role_comes_first_and_the_one_that_had_not_comes_after_the_unknown() {
    let mut hosts = vec![HostRecord::default(); 3];
    hosts[0].answered(STANDBY);
    hosts[2].answered(PRIMARY);
    let now = secs(1);
    for (wanted, expected) in [
        (TargetSession::Any, [0, 1, 2]),
        (TargetSession::Primary, [2, 1, 0]),
        (TargetSession::ReadWrite, [2, 1, 0]),
        (TargetSession::Standby, [0, 1, 2]),
        (TargetSession::ReadOnly, [0, 1, 2]),
        (TargetSession::PreferStandby, [0, 1, 2]),
    ] {
        assert_eq!(tried(&mut hosts, wanted, now).0, expected, "{wanted:?}");
    }
}

#[test]
fn evictions_of_one_host_keep_their_distance() {
    let mut host = HostRecord::default();
    assert!(host.evict(secs(5)));
    assert!(!host.evict(secs(5)));
    assert!(!host.evict(secs(6) - Duration::from_millis(1)));
    assert!(host.evict(secs(6)));
}

#[test]
fn hosts_addresses_and_ports_are_paired_as_in_libpq() {
    let shown = |text: &str| -> Vec<_> {
        let targets = targets(&text.parse().unwrap());
        targets
            .into_iter()
            .map(|target| (target.shown.clone(), target.name.clone(), target.is_name()))
            .collect()
    };
    let row = |shown: &str, name: &str, is_name| (shown.to_owned(), name.to_owned(), is_name);
    assert_eq!(
        shown("host=a,b,::1,/run port=1,2,3,4"),
        [
            row("a:1", "a", true),
            row("b:2", "b", true),
            row("[::1]:3", "::1", false),
            row("/run/.s.PGSQL.4", "", false),
        ]
    );
    assert_eq!(shown("host=a port=7")[0], row("a:7", "a", true));
    assert_eq!(
        shown("host=a,b hostaddr=127.0.0.1,127.0.0.2 port=7"),
        [row("a:7", "a", false), row("b:7", "b", false)]
    );
    assert_eq!(shown("hostaddr=127.0.0.1"), [row("127.0.0.1:5432", "127.0.0.1", false)]);
    assert_eq!(shown("user=u"), []);
}

proptest! {
    #[test]
    fn every_host_is_a_candidate_once_whatever_happened(
        events in proptest::collection::vec((0usize..4, 0u8..4, 0u64..20), 0..40),
        wanted in 0usize..6,
        seed in any::<u64>(),
    ) {
        let wanted = [
            TargetSession::Any, TargetSession::ReadWrite, TargetSession::ReadOnly,
            TargetSession::Primary, TargetSession::Standby, TargetSession::PreferStandby,
        ][wanted];
        let mut hosts = vec![HostRecord::default(); 4];
        let mut now = Duration::ZERO;
        let mut random = fastrand::Rng::with_seed(seed);
        for (index, event, pause) in events {
            now += secs(pause);
            match event {
                0 => hosts[index].failed(now),
                1 => hosts[index].answered(PRIMARY),
                2 => hosts[index].answered(STANDBY),
                _ => { hosts[index].evict(now); }
            }
            let shuffle = |candidates: &mut [Candidate]| random.shuffle(candidates);
            let candidates = order(hosts.iter_mut(), wanted, now, Some(shuffle));
            let mut indices: Vec<_> = candidates.iter().map(|candidate| candidate.index).collect();
            // Those in backoff come last.
            prop_assert!(candidates.is_sorted_by_key(|candidate| candidate.in_backoff));
            indices.sort_unstable();
            prop_assert_eq!(indices, [0, 1, 2, 3]);
        }
    }
}
