//! The circuit breaker: callers do not wait for a server that has been down for a while.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Reason};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Server, pool, queue_up, settle, small};

fn breaker(after: u64) -> Config {
    Config {
        breaker_after: Some(Duration::from_secs(after)),
        acquire_timeout: Duration::from_secs(60),
        ..small(4)
    }
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_refused_at_once_while_waiters_stay_and_are_served_after_a_restart() {
    let (pool, server) = pool(breaker(5));
    server.refuses.store(true, SeqCst);
    let patient = [queue_up(&pool), queue_up(&pool)];
    sleep(Duration::from_secs(4)).await;
    assert!(!pool.stats().breaker_open);
    sleep(Duration::from_secs(2)).await;
    assert!(pool.stats().breaker_open);

    let asked = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(error.reason(), Reason::Unavailable);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("the server is down"), "{error}");
    let hint = error.retry_after().unwrap();
    assert!(hint <= Duration::from_millis(500), "{hint:?}");
    assert_eq!(pool.stats().waiting, 2);

    server.refuses.store(false, SeqCst);
    for caller in patient {
        caller.await.unwrap().unwrap();
    }
    assert!(!pool.stats().breaker_open);
    drop(pool.get().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_pool_finds_out_by_itself_that_the_server_is_back() {
    let (pool, server) = pool(breaker(2));
    server.refuses.store(true, SeqCst);
    let hurried = pool.get_within(Duration::from_secs(3)).await;
    assert!(hurried.is_err());
    assert_eq!((pool.stats().waiting, pool.stats().min_size), (0, 0));
    let before = pool.stats().connect_failures;
    sleep(Duration::from_secs(60)).await;
    let probes = pool.stats().connect_failures - before;
    assert!((100..=300).contains(&probes), "{probes} in a minute");

    server.refuses.store(false, SeqCst);
    sleep(Duration::from_millis(600)).await;
    assert!(!pool.stats().breaker_open);
    assert!(pool.try_get().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_does_not_keep_the_breaker_open_for_ever() {
    let (pool, server) = pool(Config {
        connect_timeout: Duration::from_secs(3),
        ..breaker(2)
    });
    Server::shut_gate(&server.connect_gate);
    assert!(pool.get_within(Duration::from_secs(4)).await.is_err());
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unavailable);
    sleep(Duration::from_secs(60)).await;
    Server::open_gate(&server.connect_gate);
    settle().await;
    // Between two probes, a caller is told when the next one begins.
    if let Err(error) = pool.get().await {
        sleep(error.retry_after().unwrap()).await;
        settle().await;
        drop(pool.get().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_connection_is_open_callers_wait_for_it_though_connects_fail() {
    let (pool, server) = pool(breaker(2));
    let held = pool.get().await.unwrap();
    server.refuses.store(true, SeqCst);
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(10)).await;
    assert!(!pool.stats().breaker_open);
    let newcomer = queue_up(&pool);
    settle().await;
    drop(held);
    waiting.await.unwrap().unwrap();
    newcomer.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn callers_wait_out_a_pause_though_the_server_is_down() {
    let (pool, server) = pool(breaker(2));
    server.refuses.store(true, SeqCst);
    assert!(pool.get_within(Duration::from_secs(4)).await.is_err());
    assert!(pool.stats().breaker_open);
    pool.pause().await;
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(pool.stats().waiting, 1);
    server.refuses.store(false, SeqCst);
    pool.resume();
    waiting.await.unwrap().unwrap();
    assert!(!pool.stats().breaker_open);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_server_is_dead_can_be_drained() {
    let (pool, server) = pool(breaker(2));
    server.refuses.store(true, SeqCst);
    assert!(pool.get_within(Duration::from_secs(4)).await.is_err());
    timeout(Duration::from_secs(1), pool.drain()).await.unwrap();
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
}
