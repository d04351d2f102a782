//! Callers do not wait for connects that fail permanently.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use cenote_pool::{AcquireError, Config, Pool, Reason};
use tokio::time::{Instant, sleep};

use crate::support::{Refused, Scripted, Server, in_background, pool, queue_up, settle, small};

/// A pool with a wrong password.
fn refused_pool(config: Config) -> (Pool<Scripted>, Arc<Server>) {
    let (pool, server) = pool(config);
    refuse(&server);
    (pool, server)
}

fn refuse(server: &Server) {
    server.for_good.store(true, SeqCst);
    server.refuses.store(true, SeqCst);
}

#[track_caller]
fn is_permanent(error: &AcquireError<Refused>) {
    assert_eq!(error.reason(), Reason::Permanent);
    assert!(!error.is_retryable());
    let said = error.to_string();
    let cause = "connecting fails until its cause is removed: wrong password (0 of ";
    assert!(said.starts_with(cause), "{said}");
}

#[tokio::test(start_paused = true)]
async fn every_waiter_and_newcomer_is_refused_at_once_and_few_connects_are_tried() {
    let (pool, server) = refused_pool(Config {
        min_size: Some(2),
        acquire_timeout: Duration::from_secs(30),
        ..small(10)
    });
    let asked = Instant::now();
    let line: Vec<_> = (0..20).map(|_| queue_up(&pool)).collect();
    for caller in line {
        is_permanent(&caller.await.unwrap().unwrap_err());
    }
    for _ in 0..100 {
        let error = pool.get().await.unwrap_err();
        is_permanent(&error);
        let hint = error.retry_after().unwrap();
        assert!(hint > Duration::from_millis(500), "{hint:?}");
    }
    assert_eq!(asked.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(30)).await;
    let tries = server.tries.load(SeqCst);
    assert!((5..=20).contains(&tries), "{tries} in 30 s");
    assert_eq!(pool.stats().timeouts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_is_corrected_is_found_by_the_pool_itself_within_seconds() {
    let (pool, server) = refused_pool(small(4));
    is_permanent(&pool.get().await.unwrap_err());
    server.refuses.store(false, SeqCst);
    is_permanent(&pool.get().await.unwrap_err());
    sleep(Duration::from_secs(6)).await;
    drop(pool.try_get().unwrap());
    assert!(pool.last_connect_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn while_connections_are_open_callers_wait_for_one_although_no_other_can_be_opened() {
    let (pool, server) = pool(Config {
        acquire_timeout: Duration::from_secs(60),
        ..small(2)
    });
    let held = pool.get().await.unwrap();
    refuse(&server);
    let line = [queue_up(&pool), queue_up(&pool)];
    // After 5 s it is certain that the failure is permanent, and attempts become rare.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(pool.stats().waiting, 2);
    drop(held);
    for caller in line {
        caller.await.unwrap().unwrap();
    }
    let before = server.tries.load(SeqCst);
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(8)).await;
    let tries = server.tries.load(SeqCst) - before;
    assert!(tries <= 4, "{tries} logins in 8 s for one who waits");
    assert_eq!(pool.stats().waiting, 1);
    // Without an open connection, waiting cannot help.
    held.discard();
    settle().await;
    is_permanent(&pool.get().await.unwrap_err());
    is_permanent(&waiting.await.unwrap().unwrap_err());
}

/// A password is often changed at the server first. Until it is certain that the failure stays, the pauses are short.
#[tokio::test(start_paused = true)]
async fn a_pool_that_has_worked_notices_a_corrected_password_within_the_usual_backoff() {
    let (pool, server) = pool(small(2));
    pool.get().await.unwrap().discard();
    refuse(&server);
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(pool.stats().waiting, 1, "not certain yet");
    server.refuses.store(false, SeqCst);
    let corrected = Instant::now();
    waiting.await.unwrap().unwrap();
    assert!(
        corrected.elapsed() <= Duration::from_millis(500),
        "{:?}",
        corrected.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_after_it_refused_for_good_is_waited_for_again() {
    let (pool, server) = refused_pool(Config {
        breaker_after: None,
        ..small(2)
    });
    is_permanent(&pool.get().await.unwrap_err());
    server.for_good.store(false, SeqCst);
    sleep(Duration::from_secs(6)).await;
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().waiting, 1);
    server.refuses.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn callers_wait_out_a_pause_although_connecting_failed_for_good() {
    let (pool, server) = refused_pool(small(2));
    is_permanent(&pool.get().await.unwrap_err());
    pool.pause().await;
    let waiting = queue_up(&pool);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(pool.stats().waiting, 1);
    server.refuses.store(false, SeqCst);
    pool.resume();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn warming_up_ends_at_once_when_connecting_fails_for_good() {
    let (pool, _server) = refused_pool(Config {
        min_size: Some(2),
        ..small(4)
    });
    let asked = Instant::now();
    is_permanent(&pool.warm_up().await.unwrap_err());
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_refused_for_good_can_be_drained_while_callers_wait() {
    let (pool, server) = pool(small(2));
    Server::shut_gate(&server.connect_gate);
    refuse(&server);
    let waiting = queue_up(&pool);
    settle().await;
    let draining = in_background(&pool, |pool| async move { pool.drain().await });
    settle().await;
    Server::open_gate(&server.connect_gate);
    is_permanent(&waiting.await.unwrap().unwrap_err());
    draining.await.unwrap();
}
