//! What the hook does to a new session is what every user finds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{Config, Connection, Hooks, Pool, Reset};

use crate::support::{connecting::refused, database, until};

const SETUP: &str = "SET search_path = shop; SET TimeZone = 'Asia/Tokyo'";

/// A pool of one connection whose sessions begin with these commands, and how often they began.
async fn pool(setup: &'static str, change: impl FnOnce(&mut Config)) -> (Pool, Arc<AtomicU32>) {
    let mut config = database().await.config(1);
    let begun = Arc::new(AtomicU32::new(0));
    let count = begun.clone();
    let hooks = Hooks::default().after_connect(move |connection| {
        count.fetch_add(1, Relaxed);
        Box::pin(async move { connection.batch_execute(setup).await })
    });
    change(&mut config);
    (Pool::with_hooks(config, hooks).unwrap(), begun)
}

async fn setting(connection: &Connection, name: &str) -> String {
    let row = connection
        .query_one("SELECT current_setting($1)", &[&name])
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn every_user_finds_the_session_that_the_hook_made_and_a_clean_return_stays_free() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    for _ in 0..5 {
        let connection = pool.get().await.unwrap();
        assert_eq!(setting(&connection, "search_path").await, "shop");
        assert_eq!(setting(&connection, "TimeZone").await, "Asia/Tokyo");
    }
    assert_eq!(begun.load(Relaxed), 1);
    let stats = pool.stats().pool;
    assert_eq!((stats.connects, stats.cleaned), (1, 0));
}

#[tokio::test]
async fn what_a_user_changes_is_undone_and_the_hook_runs_again() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("SET search_path = other; SET work_mem = '1MB'")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(setting(&connection, "search_path").await, "shop");
    assert_ne!(setting(&connection, "work_mem").await, "1MB");
    assert_eq!(begun.load(Relaxed), 2);
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_rollback_alone_does_not_run_it_again() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    let connection = pool.get().await.unwrap();
    connection.batch_execute("BEGIN").await.unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(setting(&connection, "search_path").await, "shop");
    assert_eq!((begun.load(Relaxed), pool.stats().pool.cleaned), (1, 1));
}

#[tokio::test]
async fn with_a_reset_at_every_return_it_runs_at_every_return() {
    let (pool, begun) = pool(SETUP, |config| config.reset = Reset::Always).await;
    for round in 1..=3 {
        let connection = pool.get().await.unwrap();
        assert_eq!(setting(&connection, "search_path").await, "shop");
        drop(connection);
        until("it ran again", async || begun.load(Relaxed) == round + 1).await;
    }
}

#[tokio::test]
async fn a_hook_that_fails_or_leaves_a_transaction_open_fails_the_connect_and_says_so() {
    for (setup, words) in [
        ("SET ROLE nobody_of_this_name", "the session could not be set up: ERROR"),
        ("BEGIN", "the session could not be set up: it left a transaction open"),
        ("DEALLOCATE ALL", "the session could not be set up: it deallocated"),
    ] {
        let (pool, _) = pool(setup, |config| config.pool.acquire_timeout = Duration::from_secs(2)).await;
        let said = refused(pool.get().await).to_string();
        assert!(said.contains(words), "{said}");
        assert_eq!(pool.stats().last_connect_error, Some("the session could not be set up"));
    }
}
