//! The number of connections, and their lifetime.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Condition, Config, Retired};
use tokio::time::sleep;

use crate::support::{Server, pool, queue_up, settle, small};

#[tokio::test(start_paused = true)]
async fn the_warm_minimum_is_opened_without_being_asked_and_refilled() {
    let (pool, server) = pool(Config {
        min_size: Some(3),
        ..small(5)
    });
    settle().await;
    assert_eq!(pool.stats().idle, 3);
    pool.get().await.unwrap().discard();
    settle().await;
    assert_eq!(pool.stats().idle, 3);
    assert_eq!(server.opened.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closing_counts_until_its_close_is_confirmed() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.close_gate);
    pool.get().await.unwrap().discard();
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.opened.load(SeqCst), 1, "opened beyond the maximum");
    server.close_gate.add_permits(1);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.peak.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_never_confirmed_frees_its_slot_after_the_close_timeout() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.close_gate);
    pool.get().await.unwrap().discard();
    let started = tokio::time::Instant::now();
    drop(pool.get().await.unwrap());
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_takes_long_holds_nobody_up_while_there_is_room() {
    let (pool, server) = pool(small(2));
    let mut dirty = pool.get().await.unwrap();
    dirty.condition = Condition::Dirty;
    server.clean_fails.store(true, SeqCst);
    Server::shut_gate(&server.clean_gate);
    Server::shut_gate(&server.close_gate);
    drop(dirty);
    let waiting = queue_up(&pool);
    settle().await;
    assert_eq!(server.opened.load(SeqCst), 1, "the one being cleaned will serve it");
    server.clean_gate.add_permits(1);
    settle().await;
    assert_eq!(pool.stats().closing, 1);
    assert!(waiting.is_finished(), "it waits for an unrelated close");
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn overflow_connections_serve_a_burst_and_are_closed_on_return() {
    let (pool, _) = pool(Config {
        max_overflow: 2,
        ..small(1)
    });
    let burst = [
        pool.get().await.unwrap(),
        pool.get().await.unwrap(),
        pool.get().await.unwrap(),
    ];
    assert_eq!((pool.stats().size(), pool.stats().overflow()), (3, 2));
    drop(burst);
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.size(), stats.retired(Retired::Overflow)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn connections_opened_together_do_not_end_together() {
    let lifetime = Duration::from_secs(1000);
    let (pool, server) = pool(Config {
        min_size: Some(8),
        max_lifetime: Some(lifetime),
        ..small(8)
    });
    sleep(lifetime.mul_f64(0.9) - Duration::from_secs(1)).await;
    assert_eq!(
        server.opened.load(SeqCst),
        8,
        "none ends before nine tenths of its lifetime"
    );
    let mut moments = std::collections::HashSet::new();
    for _ in 0..105 {
        sleep(Duration::from_secs(1)).await;
        moments.insert(server.opened.load(SeqCst));
    }
    assert!(moments.len() > 2, "all at once: {moments:?}");
    assert_eq!(server.opened.load(SeqCst), 16);
    assert_eq!(pool.stats().retired(Retired::Lifetime), 8);
    assert_eq!(pool.stats().idle, 8);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_beyond_the_minimum_are_closed_after_their_time() {
    let idle_timeout = Some(Duration::from_secs(60));
    let (pool, _) = pool(Config {
        min_size: Some(1),
        idle_timeout,
        ..small(4)
    });
    let burst = [
        pool.get().await.unwrap(),
        pool.get().await.unwrap(),
        pool.get().await.unwrap(),
    ];
    drop(burst);
    sleep(Duration::from_secs(58)).await;
    assert_eq!(pool.stats().idle, 3);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dirty_connection_is_cleaned_before_anyone_sees_it_again() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.clean_gate);
    pool.get().await.unwrap().condition = Condition::Dirty;
    settle().await;
    assert!(pool.try_get().is_none());
    assert_eq!(pool.stats().cleaning, 1);
    server.clean_gate.add_permits(1);
    let again = pool.get().await.unwrap();
    assert_eq!((again.number, again.condition), (0, Condition::Clean));
    assert_eq!(pool.stats().cleaned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_cleaned_is_closed() {
    let (pool, server) = pool(small(1));
    server.clean_fails.store(true, SeqCst);
    pool.get().await.unwrap().condition = Condition::Dirty;
    assert_eq!(pool.get().await.unwrap().number, 1);
    server.clean_fails.store(false, SeqCst);
    Server::shut_gate(&server.clean_gate);
    pool.get().await.unwrap().condition = Condition::Dirty;
    assert_eq!(pool.get().await.unwrap().number, 2, "cleaning for too long");
    assert_eq!(pool.stats().retired(Retired::Broken), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_replaced() {
    let (pool, _) = pool(small(1));
    pool.get().await.unwrap().condition = Condition::Broken;
    assert_eq!(pool.get().await.unwrap().number, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_long_idle_is_checked_before_it_is_handed_out() {
    let check_after = Some(Duration::from_secs(30));
    let (pool, server) = pool(Config {
        check_after,
        ..small(1)
    });
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    assert_eq!(server.checks.load(SeqCst), 0, "used a moment ago");
    sleep(Duration::from_secs(40)).await;
    assert_eq!(pool.get().await.unwrap().number, 0);
    assert_eq!(server.checks.load(SeqCst), 1);
    sleep(Duration::from_secs(40)).await;
    server.check_fails.store(true, SeqCst);
    assert_eq!(pool.get().await.unwrap().number, 1, "it was gone");
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_the_time_for_a_check_does_not_cost_the_connection() {
    let (pool, server) = pool(Config {
        check_after: Some(Duration::from_secs(30)),
        ..small(1)
    });
    drop(pool.get().await.unwrap());
    sleep(Duration::from_secs(40)).await;
    Server::shut_gate(&server.check_gate);
    let hurried = pool.get_within(Duration::from_millis(5)).await;
    assert!(hurried.is_err());
    Server::open_gate(&server.check_gate);
    assert_eq!(pool.get().await.unwrap().number, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_queue_still_opens_up_to_its_maximum() {
    let (pool, _) = pool(Config {
        max_waiters: 0,
        ..small(2)
    });
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert!(pool.get().await.is_err());
    drop(held);
}
