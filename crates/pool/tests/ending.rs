//! Draining and closing.

mod support;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Reason};
use support::{Server, pool, settle, small};
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_callers_and_waits_until_every_connection_is_closed() {
    let (pool, server) = pool(Config {
        min_size: Some(2),
        ..small(3)
    });
    settle().await;
    let held = pool.get().await.unwrap();
    let waiting = {
        let all: Vec<_> = [pool.get().await.unwrap(), pool.get().await.unwrap()].into();
        let waiting = support::in_line(&pool);
        settle().await;
        let closing = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        settle().await;
        assert!(!closing.is_finished(), "three are still out");
        drop(all);
        settle().await;
        assert!(!closing.is_finished(), "one is still out");
        drop(held);
        closing.await.unwrap();
        waiting
    };
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), Reason::Closed);
    assert!(!refused.is_retryable());
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_draining_pool_serves_those_in_line_and_nobody_else() {
    let (pool, server) = pool(small(1));
    let held = pool.get().await.unwrap();
    let waiting = support::in_line(&pool);
    settle().await;
    let draining = tokio::spawn({
        let pool = pool.clone();
        async move { pool.drain().await }
    });
    settle().await;
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
    drop(held);
    waiting.await.unwrap().unwrap();
    draining.await.unwrap();
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_an_unused_pool_ends_at_once_and_twice_is_as_good_as_once() {
    let (pool, _) = pool(small(1));
    pool.close().await;
    pool.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_that_was_dropped_goes_on_and_can_be_waited_for_again() {
    let (pool, server) = pool(small(1));
    drop(pool.get().await.unwrap());
    Server::shut_gate(&server.close_gate);
    assert!(timeout(Duration::from_secs(1), pool.close()).await.is_err());
    server.close_gate.add_permits(1);
    pool.close().await;
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connect_under_way_when_the_pool_is_closed_is_closed_too() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.connect_gate);
    let waiting = support::in_line(&pool);
    settle().await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    settle().await;
    server.connect_gate.add_permits(support::OPEN);
    closing.await.unwrap();
    assert!(waiting.await.unwrap().is_err());
    assert_eq!((server.opened.load(SeqCst), server.open.load(SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn contradictory_settings_are_refused_and_say_why() {
    let refused = |config: Config| {
        let manager = support::Scripted(std::sync::Arc::default());
        cenote_pool::Pool::new(manager, config).unwrap_err().to_string()
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

/// Sets one setting to its largest, or its smallest; a time to this one.
type Set = fn(&mut Config, bool, Duration);

/// A default never stands in the way of what was asked for.
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
            let manager = support::Scripted(std::sync::Arc::default());
            let pool = cenote_pool::Pool::new(manager, config);
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
    // A resize has not asked for two warm ones either.
    for (max_size, warm) in [(5, 2), (1, 1)] {
        let limits = cenote_pool::Limits {
            max_size,
            ..pool.limits()
        };
        pool.resize(limits).unwrap();
        settle().await;
        assert_eq!((pool.stats().min_size, pool.stats().idle), (warm, warm));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_last_caller_in_line_runs_out_of_time() {
    let (pool, server) = pool(Config {
        acquire_timeout: Duration::from_secs(3),
        ..small(1)
    });
    server.refuses.store(true, SeqCst);
    let waiting = support::in_line(&pool);
    settle().await;
    timeout(Duration::from_secs(10), pool.drain()).await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_an_earlier_drain_too() {
    let (pool, server) = pool(small(1));
    server.refuses.store(true, SeqCst);
    let waiting = support::in_line(&pool);
    settle().await;
    let draining = tokio::spawn({
        let pool = pool.clone();
        async move { pool.drain().await }
    });
    settle().await;
    pool.close().await;
    timeout(Duration::from_secs(1), draining).await.unwrap().unwrap();
    assert!(waiting.await.unwrap().is_err());
}
