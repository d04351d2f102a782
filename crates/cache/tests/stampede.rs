//! Any number of concurrent reads of a cold key, through any number of instances, causes one load per instance at most.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use cenote_cache::{Cache, Config};
use tokio::task::JoinSet;
use world::{Database, read, ready, redis, strong, until};

const READS: usize = 2_000;

/// Three instances, with the times of the product: a lease outlasts the load of a busy machine.
async fn instances(database: &Database, server: &cenote_testing::RedisServer) -> Vec<Cache<Database>> {
    let make = || Cache::new(database.clone(), Config::new("test", strong(server))).unwrap();
    let caches: Vec<_> = (0..3).map(|_| make()).collect();
    for cache in &caches {
        ready(cache).await;
    }
    caches
}

/// All reads at once; the returned counter tells how many have begun.
fn stampede(caches: &[Cache<Database>]) -> (JoinSet<Option<i64>>, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut reads = JoinSet::new();
    for number in 0..READS {
        let cache = caches[number % caches.len()].clone();
        let begun = begun.clone();
        reads.spawn(async move {
            begun.fetch_add(1, SeqCst);
            read(&cache, "key").await.0
        });
    }
    (reads, begun)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_reads_through_three_instances_are_one_load_if_the_database_is_quick() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let caches = instances(&database, &server).await;
    let (mut reads, _) = stampede(&caches);
    while let Some(found) = reads.join_next().await {
        assert_eq!(found.unwrap(), Some(1));
    }
    assert!((1..=3).contains(&database.loads()), "{}", database.loads());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_reads_through_three_instances_are_one_load_by_each_if_the_database_is_slow() {
    let server = redis().await;
    let database = Database::new();
    database.commit("key", "value");
    let caches = instances(&database, &server).await;
    database.close_gate();
    let (mut reads, begun) = stampede(&caches);
    // The first has the lease; the others have given up waiting for it.
    database.at_gate(3).await;
    until("all have begun", || begun.load(SeqCst) == READS).await;
    database.open_gate();
    while let Some(found) = reads.join_next().await {
        assert_eq!(found.unwrap(), Some(1));
    }
    // A read that is slow to join, on a busy machine, may find that the load is over and its value not yet stored.
    assert!((3..=6).contains(&database.loads()), "{}", database.loads());
}
