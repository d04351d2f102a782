//! Broken idle connections are found before a caller meets them.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Pool, Retired};
use tokio::time::sleep;

use crate::support::{Scripted, Server, pool, settle, small};

/// Opens this many connections and releases them.
async fn open(pool: &Pool<Scripted>, connections: u32) {
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(pool.get().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_closes_the_broken_ones_and_leaves_the_others_alone() {
    let (pool, server) = pool(small(5));
    open(&pool, 5).await;
    server.broken_below.store(3, SeqCst);
    pool.inspect_idle();
    assert_eq!(pool.stats().idle, 2);
    settle().await;
    assert_eq!(server.open.load(SeqCst), 2);
    assert_eq!(pool.stats().retired(Retired::Broken), 3);
    assert!(pool.get().await.unwrap().number >= 3);
    assert_eq!(server.opened.load(SeqCst), 5, "no caller had to wait");
}

#[tokio::test(start_paused = true)]
async fn connections_the_server_has_closed_are_replaced_before_a_caller_meets_them() {
    let (pool, server) = pool(Config {
        min_size: Some(4),
        ..small(4)
    });
    settle().await;
    server.broken_below.store(4, SeqCst);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(pool.stats().idle, 4);
    assert_eq!(server.opened.load(SeqCst), 8);
    let before = pool.stats().waiting_times.count();
    assert!(pool.try_get().unwrap().number >= 4);
    assert_eq!(pool.stats().waiting_times.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn sweeping_changes_neither_how_long_a_connection_was_idle_nor_which_is_taken_next() {
    let (pool, server) = pool(Config {
        check_after: Some(Duration::from_secs(30)),
        idle_timeout: Some(Duration::from_secs(60)),
        ..small(2)
    });
    let (first, second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    drop(second);
    sleep(Duration::from_secs(10)).await;
    drop(first);
    for _ in 0..25 {
        sleep(Duration::from_secs(1)).await;
        pool.inspect_idle();
    }
    let held = pool.get().await.unwrap();
    assert_eq!(held.number, 0, "the one used last");
    assert_eq!(server.checks.load(SeqCst), 0, "idle for less than 30 s");
    assert_eq!(pool.get().await.unwrap().number, 1);
    assert_eq!(server.checks.load(SeqCst), 1, "idle for more than 30 s");
    sleep(Duration::from_secs(62)).await;
    assert_eq!(pool.stats().retired(Retired::Idle), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_panics_during_a_sweep_costs_that_connection_and_maintenance_goes_on() {
    let (pool, server) = pool(Config {
        min_size: Some(2),
        ..small(2)
    });
    settle().await;
    server.inspect_panics.store(true, SeqCst);
    sleep(Duration::from_millis(1500)).await;
    server.inspect_panics.store(false, SeqCst);
    assert!(pool.stats().retired(Retired::Broken) >= 1);
    server.broken_below.store(100, SeqCst);
    sleep(Duration::from_millis(1500)).await;
    server.broken_below.store(0, SeqCst);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(pool.stats().idle, 2, "it still sweeps and refills");
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_can_be_swept() {
    let (pool, server) = pool(small(3));
    open(&pool, 3).await;
    pool.pause().await;
    server.broken_below.store(2, SeqCst);
    pool.inspect_idle();
    pool.pause().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (1, 1));
    pool.resume();
    assert_eq!(pool.get().await.unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_swept_connection_whose_close_hangs_keeps_its_slot_until_the_close_timeout() {
    let (pool, server) = pool(small(1));
    open(&pool, 1).await;
    server.broken_below.store(1, SeqCst);
    Server::shut_gate(&server.close_gate);
    pool.inspect_idle();
    assert_eq!(pool.stats().closing, 1);
    let started = tokio::time::Instant::now();
    assert_eq!(pool.get().await.unwrap().number, 1);
    assert_eq!(started.elapsed().as_secs(), 5);
}
