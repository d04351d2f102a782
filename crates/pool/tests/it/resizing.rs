//! Limits that change while the pool is in use.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Limits, Retired};
use tokio::time::timeout;

use crate::support::{Server, pool, queue_up, settle, small};

fn at_most(max_size: u32) -> Limits {
    Limits {
        min_size: Some(0),
        max_size,
        max_overflow: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_smaller_pool_closes_idle_connections_at_once_and_used_ones_when_they_come_back() {
    let (pool, server) = pool(small(4));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.get_owned().await.unwrap());
    }
    held.truncate(3);
    pool.resize(at_most(2)).unwrap();
    settle().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (0, 3));
    held.truncate(2);
    settle().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (0, 2));
    drop(held);
    settle().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (2, 2));
    assert_eq!(pool.stats().retired(Retired::Overflow), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_no_connection_beyond_the_new_capacity() {
    let (pool, server) = pool(small(2));
    let first = pool.get_owned().await.unwrap();
    let second = pool.get_owned().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    pool.resize(at_most(1)).unwrap();
    drop(first);
    settle().await;
    assert_eq!(
        pool.stats().waiting,
        1,
        "a connection beyond the capacity was handed over"
    );
    assert_eq!(server.open.load(SeqCst), 1);
    drop(second);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.opened.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_larger_pool_connects_for_its_waiters_and_its_warm_minimum() {
    let (pool, _) = pool(small(1));
    let _held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    assert_eq!(pool.stats().waiting, 1);
    pool.resize(Limits {
        min_size: Some(3),
        ..at_most(4)
    })
    .unwrap();
    waiting.await.unwrap().unwrap();
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.idle), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_ends_after_the_pool_became_smaller_is_closed() {
    let (pool, server) = pool(Config {
        min_size: Some(2),
        ..small(2)
    });
    Server::shut_gate(&server.connect_gate);
    settle().await;
    pool.resize(at_most(1)).unwrap();
    Server::open_gate(&server.connect_gate);
    settle().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn configuration_and_statistics_show_the_current_limits() {
    let (pool, _) = pool(small(2));
    let limits = Limits {
        min_size: Some(1),
        max_size: 5,
        max_overflow: 3,
    };
    pool.resize(limits).unwrap();
    assert_eq!(pool.limits(), limits);
    let (config, stats) = (pool.config(), pool.stats());
    assert_eq!((config.min_size, stats.min_size), (Some(1), 1));
    assert_eq!((config.max_size, stats.max_size), (5, 5));
    assert_eq!((config.max_overflow, stats.max_overflow), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn contradictory_limits_are_refused_and_change_nothing() {
    let (pool, _) = pool(small(2));
    let before = pool.limits();
    let crossed = Limits {
        min_size: Some(3),
        ..at_most(2)
    };
    let refused = pool.resize(crossed).unwrap_err().to_string();
    assert!(refused.contains("min_size must not be above max_size"));
    assert!(pool.resize(at_most(0)).is_err());
    assert_eq!(pool.limits(), before);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_became_smaller_can_be_closed() {
    let (pool, server) = pool(small(3));
    let held = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    pool.resize(at_most(1)).unwrap();
    drop(held);
    timeout(Duration::from_secs(1), pool.close()).await.unwrap();
    assert_eq!(server.open.load(SeqCst), 0);
}
