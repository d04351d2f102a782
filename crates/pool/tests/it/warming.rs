//! Waiting for the warm minimum.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Limits, Reason};
use tokio::time::{Instant, sleep};

use crate::support::{Server, in_background, pool, small, timed_out_connecting};

fn warm(min_size: u32) -> Config {
    Config {
        min_size: Some(min_size),
        ..small(8)
    }
}

#[tokio::test(start_paused = true)]
async fn warming_up_ends_when_the_warm_minimum_is_open() {
    let (pool, _) = pool(warm(6));
    pool.warm_up().await.unwrap();
    assert_eq!(pool.stats().idle, 6);
    pool.warm_up().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn warming_up_outlasts_a_server_that_comes_late() {
    let (pool, server) = pool(warm(3));
    server.refuses.store(true, SeqCst);
    tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        server.refuses.store(false, SeqCst);
    });
    pool.warm_up().await.unwrap();
    assert_eq!(pool.stats().idle, 3);
}

#[tokio::test(start_paused = true)]
async fn warming_up_a_pool_whose_server_is_down_fails_with_the_last_connect_error() {
    let (pool, server) = pool(warm(3));
    server.refuses.store(true, SeqCst);
    let started = Instant::now();
    let error = pool.warm_up_within(Duration::from_secs(2)).await;
    let error = error.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 2);
    timed_out_connecting(&error);
    server.refuses.store(false, SeqCst);
    pool.warm_up().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_the_last_connect_misses_is_an_error_though_others_are_open() {
    let (pool, server) = pool(warm(2));
    Server::shut_gate(&server.connect_gate);
    server.connect_gate.add_permits(1);
    let error = pool.warm_up_within(Duration::from_secs(1)).await;
    let error = error.unwrap_err();
    assert_eq!((error.snapshot().idle, error.snapshot().connecting), (1, 1));
    assert!(error.snapshot().last_connect_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn warming_up_follows_the_limits_when_they_change() {
    let (pool, server) = pool(warm(4));
    server.refuses.store(true, SeqCst);
    let warming = in_background(&pool, |pool| async move {
        pool.warm_up_within(Duration::from_secs(60)).await
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!warming.is_finished());
    let limits = pool.limits();
    pool.resize(Limits {
        min_size: Some(0),
        ..limits
    })
    .unwrap();
    warming.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn warming_up_a_pool_that_is_closed_meanwhile_fails_at_once() {
    let (pool, server) = pool(warm(1));
    server.refuses.store(true, SeqCst);
    let warming = in_background(&pool, |pool| async move { pool.warm_up().await });
    sleep(Duration::from_secs(1)).await;
    pool.close().await;
    let error = warming.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::Closed);
}
