//! Futures that are dropped early: no connection and no slot is lost.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Pool};
use tokio::time::{sleep, timeout};

use crate::support::{Scripted, Server, in_background, pool, settle, small};

/// Asserts that nothing is under way and that the pool serves `max_size` callers.
async fn is_whole(pool: &Pool<Scripted>) {
    settle().await;
    let stats = pool.stats();
    assert_eq!(
        (stats.in_use, stats.waiting, stats.connecting, stats.cleaning),
        (0, 0, 0, 0)
    );
    let mut held = Vec::new();
    for _ in 0..stats.max_size {
        held.push(pool.get().await.unwrap());
    }
    assert!(pool.try_get().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_get_does_not_cancel_the_connect_that_was_started_for_it() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.connect_gate);
    assert!(timeout(Duration::from_secs(1), pool.get()).await.is_err());
    assert_eq!(pool.stats().waiting, 0);
    Server::open_gate(&server.connect_gate);
    settle().await;
    assert_eq!(pool.stats().idle, 1);
    assert_eq!(server.opened.load(SeqCst), 1);
    is_whole(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_dropped_after_the_hand_over_passes_the_connection_on() {
    let (pool, _) = pool(small(1));
    let held = pool.get().await.unwrap();
    let mut first = Box::pin(pool.get());
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    let second = in_background(&pool, |pool| async move { pool.get_owned().await.unwrap().number });
    settle().await;
    drop(held); // handed over to the first, which never wakes
    drop(first);
    assert_eq!(second.await.unwrap(), 0);
    is_whole(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_get_dropped_during_the_check_gives_the_connection_back() {
    let check_after = Some(Duration::from_secs(1));
    let (pool, server) = pool(Config {
        check_after,
        ..small(1)
    });
    drop(pool.get().await.unwrap());
    sleep(Duration::from_secs(5)).await;
    Server::shut_gate(&server.check_gate);
    let dropped = timeout(Duration::from_millis(500), pool.get()).await;
    assert!(dropped.is_err());
    assert_eq!(server.checks.load(SeqCst), 1);
    Server::open_gate(&server.check_gate);
    is_whole(&pool).await;
    assert_eq!(server.opened.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_at_random_moments_lose_nothing() {
    let (pool, server) = pool(Config {
        max_overflow: 1,
        ..small(3)
    });
    let tasks: Vec<_> = (0..64u64)
        .map(|seed| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..200 {
                    let patience = Duration::from_millis(random.u64(0..30));
                    if let Ok(Ok(held)) = timeout(patience, pool.get()).await {
                        sleep(Duration::from_millis(random.u64(0..5))).await;
                        if random.u8(0..20) == 0 {
                            held.discard();
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(server.peak.load(SeqCst) <= 4);
    is_whole(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_panics_in_inspect_costs_the_connection_and_not_its_slot() {
    let (pool, server) = pool(small(2));
    let held = [pool.get_owned().await.unwrap(), pool.get_owned().await.unwrap()];
    server.inspect_panics.store(true, SeqCst);
    for held in held {
        let returning = tokio::spawn(async move { drop(held) });
        assert!(returning.await.unwrap_err().is_panic());
    }
    server.inspect_panics.store(false, SeqCst);
    settle().await;
    assert_eq!(server.open.load(SeqCst), 0);
    is_whole(&pool).await;
}
