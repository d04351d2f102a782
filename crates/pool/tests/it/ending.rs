//! Draining and closing.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use cenote_pool::{Config, Reason};
use tokio::time::{Instant, timeout};

use crate::support::{Server, in_background, pool, queue_up, settle, small};

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_callers_and_waits_until_every_connection_is_closed() {
    let (pool, server) = pool(Config {
        min_size: Some(2),
        ..small(3)
    });
    settle().await;
    let held = pool.get().await.unwrap();
    let waiting = {
        let all: Vec<_> = [pool.get().await.unwrap(), pool.get().await.unwrap()].into();
        let waiting = queue_up(&pool);
        settle().await;
        let closing = in_background(&pool, |pool| async move { pool.close().await });
        settle().await;
        assert!(!closing.is_finished(), "three are still out");
        drop(all);
        settle().await;
        assert!(!closing.is_finished(), "one is still out");
        drop(held);
        closing.await.unwrap();
        waiting
    };
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), Reason::Closed);
    assert!(!refused.is_retryable());
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_draining_pool_serves_its_waiters_and_nobody_else() {
    let (pool, server) = pool(small(1));
    let held = pool.get().await.unwrap();
    let waiting = queue_up(&pool);
    settle().await;
    let draining = in_background(&pool, |pool| async move { pool.drain().await });
    settle().await;
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
    drop(held);
    waiting.await.unwrap().unwrap();
    draining.await.unwrap();
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_an_unused_pool_ends_at_once_and_twice_is_as_good_as_once() {
    let (pool, server) = pool(small(1));
    for _ in 0..2 {
        let started = Instant::now();
        pool.close().await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(!pool.stats().open);
        assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Closed);
        assert!(pool.try_get().is_none());
    }
    assert_eq!(
        server.tries.load(SeqCst),
        0,
        "nothing was opened for a caller that is refused"
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_that_was_dropped_goes_on_and_can_be_waited_for_again() {
    let (pool, server) = pool(small(1));
    drop(pool.get().await.unwrap());
    Server::shut_gate(&server.close_gate);
    assert!(timeout(Duration::from_secs(1), pool.close()).await.is_err());
    server.close_gate.add_permits(1);
    pool.close().await;
    assert_eq!(server.open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connect_under_way_when_the_pool_is_closed_is_closed_too() {
    let (pool, server) = pool(small(1));
    Server::shut_gate(&server.connect_gate);
    let waiting = queue_up(&pool);
    settle().await;
    let closing = in_background(&pool, |pool| async move { pool.close().await });
    settle().await;
    Server::open_gate(&server.connect_gate);
    closing.await.unwrap();
    assert!(waiting.await.unwrap().is_err());
    assert_eq!((server.opened.load(SeqCst), server.open.load(SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_last_waiter_times_out() {
    let (pool, server) = pool(Config {
        acquire_timeout: Duration::from_secs(3),
        ..small(1)
    });
    server.refuses.store(true, SeqCst);
    let waiting = queue_up(&pool);
    settle().await;
    timeout(Duration::from_secs(10), pool.drain()).await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_an_earlier_drain_too() {
    let (pool, server) = pool(small(1));
    server.refuses.store(true, SeqCst);
    let waiting = queue_up(&pool);
    settle().await;
    let draining = in_background(&pool, |pool| async move { pool.drain().await });
    settle().await;
    pool.close().await;
    timeout(Duration::from_secs(1), draining).await.unwrap().unwrap();
    assert!(waiting.await.unwrap().is_err());
}
