//! What callers see while the server is down, and after it is back.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Phase, Reason};
use tokio::time::{Instant, sleep};

use crate::support::{Server, pool, small, timed_out_connecting};

#[tokio::test(start_paused = true)]
async fn while_the_server_is_down_a_caller_is_told_so_and_afterwards_is_served() {
    let (pool, server) = pool(Config {
        acquire_timeout: Duration::from_secs(2),
        ..small(4)
    });
    server.refuses.store(true, SeqCst);
    let started = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 2);
    timed_out_connecting(&error);
    assert!(error.is_retryable());

    server.refuses.store(false, SeqCst);
    let started = Instant::now();
    drop(pool.get().await.unwrap());
    let took = started.elapsed();
    assert!(took <= Duration::from_millis(510), "{took:?}");
    assert!(pool.last_connect_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_not_hammered_however_many_callers_wait() {
    let (pool, server) = pool(small(10));
    server.refuses.store(true, SeqCst);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get_owned().await.map(drop) })
        })
        .collect();
    sleep(Duration::from_secs(9)).await;
    let failures = pool.stats().connect_failures;
    assert!((15..60).contains(&failures), "{failures} connects in 9 s");
    server.refuses.store(false, SeqCst);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_is_given_up_after_the_connect_timeout() {
    let (pool, server) = pool(Config {
        connect_timeout: Duration::from_secs(1),
        breaker_after: None,
        ..small(1)
    });
    Server::shut_gate(&server.connect_gate);
    let error = pool.get().await.unwrap_err();
    assert!(error.to_string().contains("no connection within 1.0 s"), "{error}");
    Server::open_gate(&server.connect_gate);
    drop(pool.get().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_pool_says_who_holds_its_connections() {
    let (pool, _) = pool(Config {
        acquire_timeout: Duration::from_secs(2),
        ..small(1)
    });
    let line = line!() + 1;
    let _held = pool.get().await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let error = pool.get().await.unwrap_err();
    assert!(matches!(
        error.reason(),
        Reason::Timeout {
            phase: Phase::Waiting,
            ..
        }
    ));
    let said = error.to_string();
    assert!(said.contains("1 of 1 in use"), "{said}");
    assert!(said.contains(&format!("outage.rs:{line}")), "{said}");
    assert!(error.snapshot().oldest_holder.unwrap().held >= Duration::from_secs(4));
}
