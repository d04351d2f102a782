//! The order in which callers are served.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use cenote_pool::{Config, Reason};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::support::{Server, in_background, pool, queue_up, settle, small};

#[tokio::test(start_paused = true)]
async fn callers_are_served_in_the_order_in_which_they_came() {
    let (pool, _) = pool(small(1));
    let held = pool.get().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for name in 0..20 {
        let (pool, served) = (pool.clone(), served.clone());
        callers.push(tokio::spawn(async move {
            let _held = pool.get().await.unwrap();
            served.lock().await.push(name);
            tokio::task::yield_now().await;
        }));
        settle().await;
    }
    drop(held);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(*served.lock().await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_a_caller_that_was_handed_the_connection_but_has_not_woken() {
    let (pool, _) = pool(small(1));
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    drop(held);
    assert!(pool.try_get().is_none(), "the connection is handed over already");
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_beyond_the_bound_on_waiters_is_refused_at_once() {
    let (pool, _) = pool(Config {
        max_waiters: 1,
        ..small(1)
    });
    let _held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    let asked = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Overloaded);
    assert!(error.is_retryable());
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(pool.stats().refused, 1);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_takes_any_connection_that_becomes_free() {
    let (pool, server) = pool(small(2));
    let held = pool.get().await.unwrap();
    Server::shut_gate(&server.connect_gate);
    let waiting = in_background(&pool, |pool| async move { pool.get_owned().await.unwrap().number });
    settle().await;
    assert_eq!(pool.stats().connecting, 1, "a connect was started for it");
    drop(held);
    assert_eq!(waiting.await.unwrap(), 0, "but the returned one came first");
    Server::open_gate(&server.connect_gate);
    settle().await;
    assert_eq!(pool.stats().idle, 2, "and the new connection is kept");
}

#[tokio::test(start_paused = true)]
async fn the_time_to_get_a_connection_is_split_into_waiting_and_connecting() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.connect_gate);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Server::open_gate(&server.connect_gate);
    });
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(held);
    waiting.await.unwrap().unwrap();
    drop(pool.get().await.unwrap());
    let stats = pool.stats();
    assert_eq!(stats.connecting_times.max(), Duration::from_millis(400));
    assert_eq!(stats.waiting_times.max(), Duration::from_millis(100));
    assert_eq!((stats.acquired, stats.waiting_times.count()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_caller_handed_a_connection_that_breaks_before_it_wakes_keeps_its_place_at_the_front() {
    let (pool, server) = pool(small(1));
    let held = pool.get().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for name in 0..3 {
        let (pool, served) = (pool.clone(), served.clone());
        callers.push(tokio::spawn(async move {
            let held = pool.get().await.unwrap();
            served.lock().await.push((name, held.number));
        }));
        settle().await;
    }
    drop(held); // handed over to the first, which has not woken
    server.broken_below.store(1, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(*served.lock().await, [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_back_to_the_front_keeps_its_deadline() {
    let (pool, server) = pool(small(1));
    let held = pool.get().await.unwrap();
    let started = Instant::now();
    let waiting = in_background(&pool, |pool| async move {
        pool.get_within(Duration::from_secs(3)).await.map(drop)
    });
    sleep(Duration::from_secs(2)).await;
    Server::shut_gate(&server.connect_gate);
    drop(held);
    server.broken_below.store(1, SeqCst);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 3);
    assert!(
        matches!(error.reason(), Reason::Timeout { waited, .. } if waited.as_secs() == 3),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_wait_for_ever() {
    let (pool, _) = pool(small(1));
    let held = pool.get_within(Duration::MAX).await.unwrap();
    let waiting = in_background(
        &pool,
        |pool| async move { pool.get_within(Duration::MAX).await.map(drop) },
    );
    sleep(Duration::from_secs(1_000)).await;
    drop(held);
    waiting.await.unwrap().unwrap();
}
