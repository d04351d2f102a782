//! In one process, no read misses an acknowledged write, in any interleaving of reads and writes.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Coherence, Mode, Source};
use tokio::task::JoinSet;
use world::{Database, Down, FENCE, cache, config, read, until, write};

#[tokio::test]
async fn a_value_is_loaded_once_and_then_served_as_a_near_value() {
    let database = Database::new();
    let cache = cache(&database, Mode::Local);
    assert_eq!(read(&cache, "key").await, (None, Source::Database));
    assert_eq!(read(&cache, "key").await, (None, Source::Near));
    let version = write(&cache, &database, "key", "one").await;
    assert_eq!(read(&cache, "key").await, (Some(version), Source::Database));
    let again = cache.read("key").await.unwrap();
    assert_eq!(again.source, Source::Near);
    assert_eq!(again.value.unwrap().bytes, "one");
    assert_eq!(again.age, Some(Duration::ZERO));
    assert_eq!(database.loads(), 2);
    assert_eq!(cache.stats().hit_rate(), 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_reads_of_a_cold_key_are_one_load() {
    let database = Database::new();
    database.commit("key", "one");
    let cache = cache(&database, Mode::Local);
    database.close_gate();
    let mut reads = JoinSet::new();
    for _ in 0..2_000 {
        let cache = cache.clone();
        reads.spawn(async move { read(&cache, "key").await.0 });
    }
    database.at_gate(1).await;
    database.open_gate();
    while let Some(found) = reads.join_next().await {
        assert_eq!(found.unwrap(), Some(1));
    }
    assert_eq!(database.loads(), 1);
}

#[tokio::test]
async fn a_load_that_raced_a_write_is_neither_kept_nor_given_to_later_callers() {
    let database = Database::new();
    database.commit("key", "old");
    let cache = cache(&database, Mode::Local);
    database.close_gate();
    let early = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    database.at_gate(1).await;
    let version = write(&cache, &database, "key", "new").await;
    let late = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    tokio::task::yield_now().await;
    database.open_gate();
    assert_eq!(early.await.unwrap().0, Some(1));
    assert_eq!(late.await.unwrap().0, Some(version));
    assert_eq!(read(&cache, "key").await.0, Some(version));
    assert_eq!(cache.stats().fills_rejected, 1);
}

#[tokio::test]
async fn while_a_write_is_under_way_reads_go_to_the_database() {
    let database = Database::new();
    database.commit("key", "old");
    let cache = cache(&database, Mode::Local);
    read(&cache, "key").await;
    let fenced = cache.fence(&["key"]).await.unwrap();
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    database.commit("key", "new");
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    let _ = fenced.release().await;
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Near));
}

#[tokio::test]
async fn a_vanished_writer_keeps_its_key_uncached_until_it_can_no_longer_commit() {
    let database = Database::new();
    database.commit("key", "old");
    let cache = cache(&database, Mode::Local);
    let fenced = cache.fence(&["key"]).await.unwrap();
    assert!(fenced.fits(FENCE / 2));
    assert!(!fenced.fits(FENCE));
    drop(fenced);
    assert_eq!(read(&cache, "key").await, (Some(1), Source::Database));
    database.commit("key", "new");
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    tokio::time::sleep(FENCE).await;
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Near));
}

#[tokio::test]
async fn after_a_reader_is_dropped_another_one_loads() {
    let database = Database::new();
    database.commit("key", "one");
    let cache = cache(&database, Mode::Local);
    database.close_gate();
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    database.at_gate(1).await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "key").await }
    });
    tokio::task::yield_now().await;
    leader.abort();
    until("the follower loads itself", || database.loads() == 2).await;
    database.open_gate();
    assert_eq!(follower.await.unwrap().0, Some(1));
}

#[tokio::test]
async fn several_keys_are_one_load_even_if_one_is_named_twice() {
    let database = Database::new();
    database.commit("a", "1");
    database.commit("b", "2");
    let cache = cache(&database, Mode::Local);
    read(&cache, "a").await;
    let keys = ["b", "a", "nothing", "b"];
    let reads = cache.read_many(&keys).await.unwrap();
    let values: Vec<_> = reads
        .into_iter()
        .map(|read| read.value.map(|value| value.bytes))
        .collect();
    assert_eq!(values, [Some("2".into()), Some("1".into()), None, Some("2".into())]);
    assert_eq!((database.loads(), database.loaded_keys()), (2, 3));
}

#[tokio::test]
async fn values_changed_outside_the_cache_are_dropped_on_request() {
    let database = Database::new();
    database.commit("key", "old");
    let cache = cache(&database, Mode::Local);
    read(&cache, "key").await;
    database.commit("key", "new");
    assert_eq!(cache.invalidate(&["key"]).await, Coherence::Settled);
    assert_eq!(read(&cache, "key").await, (Some(2), Source::Database));
}

#[tokio::test]
async fn an_error_reaches_all_callers_and_is_not_kept() {
    let database = Database::new();
    let cache = cache(&database, Mode::Local);
    database.fail(true);
    assert_eq!(cache.read("key").await, Err(Down));
    database.fail(false);
    assert_eq!(read(&cache, "key").await, (None, Source::Database));
}

#[tokio::test]
async fn an_outdated_value_is_served_while_the_database_fails_only_if_configured_and_marked() {
    let database = Database::new();
    database.commit("key", "one");
    for wished in [false, true] {
        let mut config = config(Mode::Local);
        // The value is over as soon as it is kept.
        config.ttl = Duration::ZERO;
        config.stale_on_error = wished;
        let cache = cenote_cache::Cache::new(database.clone(), config).unwrap();
        read(&cache, "key").await;
        database.fail(true);
        let answer = cache.read("key").await;
        assert_eq!(cache.read("never read").await, Err(Down));
        database.fail(false);
        if wished {
            let read = answer.unwrap();
            assert!(read.stale && read.age.is_none());
            assert_eq!(read.value.unwrap().bytes, "one");
        } else {
            assert_eq!(answer, Err(Down));
        }
        let fresh = cache.read("key").await.unwrap();
        assert!(!fresh.stale);
    }
}

#[tokio::test]
async fn off_keeps_nothing() {
    let database = Database::new();
    let cache = cache(&database, Mode::Off);
    let version = write(&cache, &database, "key", "one").await;
    for loads in 1..4 {
        assert_eq!(read(&cache, "key").await, (Some(version), Source::Database));
        assert_eq!(database.loads(), loads);
    }
}
