//! Which settings a pool accepts.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use cenote_pool::{Config, Limits, Pool};

use crate::support::{Scripted, pool, settle, small};

#[tokio::test(start_paused = true)]
async fn contradictory_settings_are_refused_and_say_why() {
    let refused = |config: Config| {
        let manager = Scripted(Arc::default());
        Pool::new(manager, config).unwrap_err().to_string()
    };
    assert!(refused(small(0)).contains("max_size must be at least 1"));
    let crossed = Config {
        min_size: Some(3),
        ..small(2)
    };
    assert!(refused(crossed).contains("min_size must not be above max_size"));
    let instant = Config {
        connect_timeout: Duration::ZERO,
        ..small(1)
    };
    assert!(refused(instant).contains("connect_timeout must not be zero"));
}

/// Sets a number to its largest or smallest value, or a duration to the given one.
type Set = fn(&mut Config, bool, Duration);

/// No default contradicts a setting that was made alone.
#[tokio::test(start_paused = true)]
async fn each_setting_may_be_set_alone_to_its_smallest_and_largest() {
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(1 << 40));
    let set: [(&str, Set); 17] = [
        ("max_size", |c, big, _| c.max_size = if big { 1 << 20 } else { 1 }),
        ("min_size", |c, big, _| {
            c.min_size = Some(if big { c.max_size } else { 0 })
        }),
        ("max_overflow", |c, big, _| {
            c.max_overflow = if big { 1 << 20 } else { 0 }
        }),
        ("max_waiters", |c, big, _| {
            c.max_waiters = if big { u32::MAX } else { 0 }
        }),
        ("connect_concurrency", |c, big, _| {
            c.connect_concurrency = if big { u32::MAX } else { 1 }
        }),
        ("acquire_timeout", |c, _, time| c.acquire_timeout = time),
        ("max_lifetime", |c, _, time| c.max_lifetime = Some(time)),
        ("idle_timeout", |c, _, time| c.idle_timeout = Some(time)),
        ("check_after", |c, _, time| c.check_after = Some(time)),
        ("check_timeout", |c, _, time| c.check_timeout = time),
        ("connect_timeout", |c, _, time| c.connect_timeout = time),
        ("clean_timeout", |c, _, time| c.clean_timeout = time),
        ("close_timeout", |c, _, time| c.close_timeout = time),
        ("leak_after", |c, _, time| c.leak_after = Some(time)),
        ("backoff_base", |c, _, time| c.backoff_base = time),
        ("backoff_max", |c, _, time| c.backoff_max = Some(time)),
        ("breaker_after", |c, _, time| c.breaker_after = Some(time)),
    ];
    for (name, set) in set {
        for (big, time) in [(false, short), (true, long)] {
            let mut config = Config::default();
            set(&mut config, big, time);
            let manager = Scripted(Arc::default());
            let pool = Pool::new(manager, config);
            let pool = pool.unwrap_or_else(|error| panic!("{name}: {error}"));
            drop(pool.get().await.unwrap_or_else(|error| panic!("{name}: {error}")));
            pool.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_usual_number_of_warm_connections_follows_a_small_maximum() {
    let one = Config {
        max_size: 1,
        ..Config::default()
    };
    let (pool, server) = pool(one);
    settle().await;
    assert_eq!(server.open.load(SeqCst), 1);
    // Nor does a resize change that.
    for (max_size, warm) in [(5, 2), (1, 1)] {
        let limits = Limits {
            max_size,
            ..pool.limits()
        };
        pool.resize(limits).unwrap();
        settle().await;
        assert_eq!((pool.stats().min_size, pool.stats().idle), (warm, warm));
    }
}
