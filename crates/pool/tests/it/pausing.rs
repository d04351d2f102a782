//! A paused pool.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use cenote_pool::{Condition, Config, Phase, Reason};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::support::{Server, in_background, pool, queue_up, settle, small};

#[tokio::test(start_paused = true)]
async fn a_paused_pool_hands_out_nothing_and_resumes_in_the_order_of_the_queue() {
    let (pool, _) = pool(small(2));
    drop([pool.get().await.unwrap(), pool.get().await.unwrap()]);
    pool.pause().await;
    assert!(pool.stats().paused);
    assert!(pool.try_get().is_none());
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for name in 0..6 {
        let (pool, served) = (pool.clone(), served.clone());
        callers.push(tokio::spawn(async move {
            let _held = pool.get().await.unwrap();
            served.lock().await.push(name);
        }));
        settle().await;
    }
    assert_eq!((pool.stats().waiting, pool.stats().idle), (6, 2));
    pool.resume();
    assert!(pool.try_get().is_none(), "a newcomer does not overtake waiters");
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(*served.lock().await, [0, 1, 2, 3, 4, 5]);
    assert!(!pool.stats().paused);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_complete_when_nothing_is_in_use_or_being_cleaned_or_closed() {
    let (pool, server) = pool(small(3));
    let [clean, mut dirty, discarded] = [
        pool.get_owned().await.unwrap(),
        pool.get_owned().await.unwrap(),
        pool.get_owned().await.unwrap(),
    ];
    Server::shut_gate(&server.clean_gate);
    Server::shut_gate(&server.close_gate);
    let pausing = in_background(&pool, |pool| async move { pool.pause().await });
    settle().await;
    drop(clean);
    dirty.condition = Condition::Dirty;
    drop(dirty);
    discarded.discard();
    settle().await;
    assert!(!pausing.is_finished());
    server.close_gate.add_permits(1);
    settle().await;
    assert!(!pausing.is_finished(), "one is still being cleaned");
    server.clean_gate.add_permits(1);
    settle().await;
    assert!(pausing.is_finished());
    assert_eq!(pool.stats().idle, 2);
}

#[tokio::test(start_paused = true)]
async fn a_pause_takes_effect_with_the_call_and_stays_when_its_future_is_dropped() {
    let (pool, _) = pool(small(1));
    let held = pool.get().await.unwrap();
    drop(pool.pause());
    drop(held);
    assert!(pool.try_get().is_none());
    timeout(Duration::from_secs(1), pool.pause()).await.unwrap();
    pool.resume();
    assert!(pool.try_get().is_some());
}

#[tokio::test(start_paused = true)]
async fn callers_wait_out_a_pause_only_until_their_own_deadlines() {
    let (pool, _) = pool(small(1));
    drop(pool.get().await.unwrap());
    pool.pause().await;
    let started = tokio::time::Instant::now();
    let error = pool.get_within(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 3);
    let phase = Phase::Waiting;
    assert!(matches!(error.reason(), Reason::Timeout { phase: p, .. } if p == phase));
    pool.resume();
    drop(pool.get().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_pause_starts_no_connects_and_its_end_starts_those_that_are_needed() {
    let (pool, server) = pool(Config {
        min_size: Some(1),
        ..small(2)
    });
    settle().await;
    pool.pause().await;
    server.broken_below.store(1, SeqCst);
    let waiting = [queue_up(&pool), queue_up(&pool)];
    sleep(Duration::from_secs(5)).await;
    assert_eq!(server.opened.load(SeqCst), 1);
    pool.resume();
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    assert!(server.opened.load(SeqCst) > 1);
}

#[tokio::test(start_paused = true)]
async fn resuming_ends_the_wait_for_a_pause() {
    let (pool, _) = pool(small(1));
    let _held = pool.get().await.unwrap();
    let pausing = in_background(&pool, |pool| async move { pool.pause().await });
    settle().await;
    assert!(!pausing.is_finished());
    pool.resume();
    timeout(Duration::from_secs(1), pausing).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_that_drains_serves_its_waiters_and_ends() {
    let (pool, server) = pool(small(1));
    drop(pool.get().await.unwrap());
    pool.pause().await;
    let waiting = [queue_up(&pool), queue_up(&pool)];
    settle().await;
    timeout(Duration::from_secs(1), pool.drain()).await.unwrap();
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(server.open.load(SeqCst), 0);
    assert_eq!(server.opened.load(SeqCst), 1, "the idle one was used");
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_that_closes_refuses_its_waiters_and_ends() {
    let (pool, server) = pool(small(1));
    drop(pool.get().await.unwrap());
    pool.pause().await;
    let waiting = queue_up(&pool);
    settle().await;
    timeout(Duration::from_secs(1), pool.close()).await.unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), Reason::Closed);
    assert_eq!(server.open.load(SeqCst), 0);
    timeout(Duration::from_secs(1), pool.pause()).await.unwrap();
    assert!(!pool.stats().paused, "a closed pool cannot be paused");
}
