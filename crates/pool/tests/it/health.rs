//! The health that the pool reports.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, HealthState::*};
use tokio::time::sleep;

use crate::support::{Server, pool, queue_up, settle, small};

#[tokio::test(start_paused = true)]
async fn health_is_unknown_until_the_first_connect_has_ended() {
    let (pool, server) = pool(Config {
        min_size: Some(1),
        ..small(1)
    });
    Server::shut_gate(&server.connect_gate);
    settle().await;
    assert_eq!(pool.stats().health(), Unknown);
    Server::open_gate(&server.connect_gate);
    pool.warm_up().await.unwrap();
    assert_eq!(pool.stats().health(), Healthy);
}

#[tokio::test(start_paused = true)]
async fn health_follows_an_outage_from_degraded_to_unhealthy_and_back() {
    let (pool, server) = pool(small(2));
    let held = pool.get().await.unwrap();
    server.refuses.store(true, SeqCst);
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().health(), Degraded, "one is open still");
    held.discard();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().health(), Unhealthy);
    server.refuses.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
    assert_eq!(pool.stats().health(), Healthy);
}

#[tokio::test(start_paused = true)]
async fn waiters_refusals_leaks_and_pauses_degrade_health() {
    let (pool, _) = pool(Config {
        leak_after: Some(Duration::from_secs(5)),
        max_waiters: 1,
        ..small(1)
    });
    let held = pool.get().await.unwrap();
    assert_eq!(pool.stats().health(), Healthy);
    let waiting = queue_up(&pool);
    settle().await;
    assert_eq!(pool.stats().health(), Degraded, "someone waits");
    assert!(pool.get().await.is_err());
    waiting.abort();
    settle().await;
    assert_eq!(pool.stats().health(), Degraded, "someone was refused");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.stats().health(), Healthy);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pool.stats().health(), Degraded, "held for too long");
    drop(held);
    assert_eq!(pool.stats().health(), Healthy);
    pool.pause().await;
    assert_eq!(pool.stats().health(), Degraded, "paused");
    pool.resume();
    assert_eq!(pool.stats().health(), Healthy);
    pool.close().await;
    assert_eq!(pool.stats().health(), Unhealthy);
}
