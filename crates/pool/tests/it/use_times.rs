//! How long connections are held, and what a registry gets of it.

use std::time::Duration;

use cenote_pool::{Condition, Config, Metrics, Stats, Value};
use tokio::time::sleep;

use crate::support::{Server, pool, settle, small};

fn timed(max: u32) -> Config {
    Config {
        time_uses: true,
        ..small(max)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The value of a metric without a histogram.
fn number(stats: &Stats, name: &str, label: &[&str]) -> f64 {
    let mut found = None;
    stats.visit(&mut |sample| {
        if let Value::Number(value) = sample.value
            && (sample.metric.name, sample.labels) == (name, label)
        {
            found = Some(value);
        }
    });
    found.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_use_lasts_from_acquire_to_release_whether_somebody_waits_or_not() {
    let (pool, _) = pool(timed(1));
    let held = pool.get().await.unwrap();
    sleep(seconds(3)).await;
    drop(held);
    assert_eq!(pool.stats().use_times.sum(), seconds(3));

    sleep(seconds(10)).await;
    let held = pool.get().await.unwrap();
    let next = tokio::spawn(pool.get_owned());
    settle().await;
    sleep(seconds(4)).await;
    drop(held);
    let next = next.await.unwrap().unwrap();
    assert_eq!(
        pool.stats().use_times.sum(),
        seconds(7),
        "the wait of the next one is no use"
    );
    sleep(seconds(5)).await;
    drop(next);
    let uses = pool.stats().use_times;
    assert_eq!((uses.count(), uses.sum(), uses.max()), (3, seconds(12), seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn a_use_ends_before_the_connection_is_cleaned_or_closed() {
    let (pool, server) = pool(timed(2));
    let mut dirty = pool.get().await.unwrap();
    dirty.condition = Condition::Dirty;
    sleep(seconds(2)).await;
    Server::shut_gate(&server.clean_gate);
    drop(dirty);
    settle().await;
    assert_eq!(pool.stats().use_times.sum(), seconds(2));
    let other = pool.get().await.unwrap();
    sleep(seconds(1)).await;
    other.discard();
    settle().await;
    let uses = pool.stats().use_times;
    assert_eq!((uses.count(), uses.sum()), (2, seconds(3)));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_holder_is_exact_if_uses_are_timed() {
    let (pool, _) = pool(timed(1));
    pool.warm_up().await.unwrap();
    sleep(Duration::from_millis(12_345)).await;
    let _held = pool.get().await.unwrap();
    sleep(Duration::from_millis(1_234)).await;
    assert_eq!(pool.holders()[0].held, Duration::from_millis(1_234));
}

#[tokio::test(start_paused = true)]
async fn uses_are_not_timed_unless_asked_for() {
    let (pool, _) = pool(small(1));
    drop(pool.get().await.unwrap());
    assert_eq!(pool.stats().use_times.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_gets_what_the_statistics_say() {
    let (pool, _) = pool(timed(1));
    let held = pool.get().await.unwrap();
    let waiting = tokio::spawn(pool.get_owned());
    settle().await;
    sleep(seconds(2)).await;
    assert!(pool.get_within(Duration::ZERO).await.is_err());
    let stats = pool.stats();
    for (name, label, value) in [
        ("cenote_pool_connections", &["in_use"][..], 1.0),
        ("cenote_pool_connections", &["idle"], 0.0),
        ("cenote_pool_connections_limit", &["max"], 1.0),
        ("cenote_pool_waiters", &[], 1.0),
        ("cenote_pool_longest_wait_seconds", &[], 2.0),
        ("cenote_pool_acquires_total", &[], 1.0),
        ("cenote_pool_acquire_failures_total", &["timeout"], 1.0),
        ("cenote_pool_acquire_failures_total", &["refused"], 0.0),
        ("cenote_pool_breaker_open", &[], 0.0),
    ] {
        assert_eq!(number(&stats, name, label), value, "{name} {label:?}");
    }
    assert!(number(&stats, "cenote_pool_waits_total", &[]) >= 2.0);
    drop(held);
    drop(waiting.await.unwrap().unwrap());
    pool.close().await;
    assert!(pool.get().await.is_err());
    let stats = pool.stats();
    assert_eq!(number(&stats, "cenote_pool_acquire_failures_total", &["closed"]), 1.0);
    assert_eq!(number(&stats, "cenote_pool_closed_total", &["closed"]), 1.0);
}
