//! Connections that leave the pool before their time: detached, removed, replaced.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Pool, Retired};
use tokio::time::sleep;

use crate::support::{Scripted, Server, pool, queue_up, settle, small};

/// Opens this many connections and releases them.
async fn open(pool: &Pool<Scripted>, connections: u32) {
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(pool.get().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_connection_is_its_holders_and_its_place_is_free_at_once() {
    let (pool, server) = pool(small(1));
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    let own = held.detach();
    assert_eq!(own.number, 0);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.open.load(SeqCst), 2, "the detached one and a new one");
    let stats = pool.stats();
    assert_eq!(
        (stats.size(), stats.closing, stats.retired(Retired::Detached)),
        (1, 0, 1)
    );
    pool.close().await;
    assert_eq!(server.open.load(SeqCst), 1, "a close of the pool does not concern it");
    drop(own);
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_or_a_pause_does_not_wait_for_what_is_detached() {
    let (pool, _server) = pool(small(1));
    let held = pool.get_owned().await.unwrap();
    let pausing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.pause().await }
    });
    settle().await;
    assert!(!pausing.is_finished());
    let _own = held.detach();
    pausing.await.unwrap();
    pool.resume();
    let held = pool.get_owned().await.unwrap();
    let draining = tokio::spawn({
        let pool = pool.clone();
        async move { pool.drain().await }
    });
    settle().await;
    assert!(!draining.is_finished());
    let _own = held.detach();
    draining.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retain_closes_the_idle_ones_that_its_caller_does_not_want_and_no_others() {
    let (pool, server) = pool(small(4));
    let held = pool.get().await.unwrap();
    open(&pool, 3).await;
    let mut asked = 0;
    let closed = pool.retain(|connection, info| {
        asked += 1;
        assert_eq!(info.uses, 1);
        connection.number == 2
    });
    assert_eq!((asked, closed), (3, 2), "the one in use is left alone");
    settle().await;
    assert_eq!(server.open.load(SeqCst), 2);
    assert_eq!(pool.stats().retired(Retired::Discarded), 2);
    assert_eq!(pool.get().await.unwrap().number, 2);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn retain_asks_nothing_about_broken_ones_and_a_panic_in_it_costs_one_connection() {
    let (pool, server) = pool(small(3));
    open(&pool, 3).await;
    server.broken_below.store(1, SeqCst);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.retain(|connection, _| {
            assert_ne!(connection.number, 0, "it is broken");
            panic!("the test tells it to panic")
        })
    }));
    assert!(panicked.is_err());
    settle().await;
    assert_eq!((pool.stats().idle, server.open.load(SeqCst)), (1, 1));
    assert_eq!(pool.stats().retired(Retired::Broken), 1);
}

#[tokio::test(start_paused = true)]
async fn every_connection_is_replaced_and_no_caller_gets_an_error() {
    let (pool, server) = pool(Config {
        min_size: Some(2),
        ..small(3)
    });
    settle().await;
    let held = pool.get().await.unwrap();
    let first = held.number;
    // One in use, one idle, one being opened.
    Server::shut_gate(&server.connect_gate);
    let other = pool.get_owned().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    drop(other);
    settle().await;
    pool.replace_all();
    Server::open_gate(&server.connect_gate);
    waiting.await.unwrap().unwrap();
    assert_eq!(held.number, first, "it stays with its holder");
    drop(held);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.stats().idle, 2);
    pool.retain(|connection, _| {
        assert!(connection.number >= 2, "{connection:?} was open before");
        true
    });
    assert!(pool.stats().retired(Retired::Replaced) >= 2);
    assert_eq!(server.open.load(SeqCst), 2);
    assert!(server.peak.load(SeqCst) <= 3, "no more than the maximum");
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_after_a_replacement_stays() {
    let (pool, server) = pool(small(2));
    open(&pool, 2).await;
    pool.replace_all();
    open(&pool, 2).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!((pool.stats().idle, server.opened.load(SeqCst)), (2, 4));
}
