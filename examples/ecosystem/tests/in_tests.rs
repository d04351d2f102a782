//! What docs/in-tests.md shows and says.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, GenericClient, Pool, tokio_postgres};
use tokio::sync::OnceCell;

async fn database() -> String {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let server = SERVER
        .get_or_init(async || PostgresServer::temporary().start().await.unwrap())
        .await;
    let name = format!("test_{}", CREATED.fetch_add(1, Relaxed));
    server.create_database(&name).await.unwrap();
    server.url_for(&name)
}

async fn pool() -> Pool {
    let mut config = Config::from_url(&database().await).unwrap();
    config.pool.min_size = Some(0);
    config.pool.max_size = 2;
    Pool::new(config).unwrap()
}

async fn add(client: &impl GenericClient, name: &str) -> Result<u64, tokio_postgres::Error> {
    client.execute("INSERT INTO goods VALUES ($1)", &[&name]).await
}

#[tokio::test]
async fn a_test_in_a_transaction_leaves_nothing() {
    let pool = pool().await;
    pool.execute("CREATE TABLE goods (name text)", &[]).await.unwrap();
    let transaction = pool.begin().await.unwrap();
    add(&transaction, "lamp").await.unwrap();
    let seen: i64 = transaction
        .query_one_scalar("SELECT count(*) FROM goods", &[])
        .await
        .unwrap();
    assert_eq!(seen, 1);
    drop(transaction);
    let left: i64 = pool.query_one_scalar("SELECT count(*) FROM goods", &[]).await.unwrap();
    assert_eq!(left, 0);
    assert!(pool.holders().is_empty(), "{:?}", pool.holders());
    assert!(pool.drain_within(Duration::from_secs(60)).await);
}

#[test]
fn a_static_pool_serves_tests_one_runtime_after_the_other() {
    static POOL: OnceCell<Pool> = OnceCell::const_new();
    let first = tokio::runtime::Runtime::new().unwrap();
    // The runtime that starts the server must outlive it.
    let server = first.block_on(PostgresServer::temporary().start()).unwrap();
    let one = |runtime: tokio::runtime::Runtime| {
        let answer = runtime.block_on(async {
            let make = async || Pool::new(Config::from_url(&server.url()).unwrap()).unwrap();
            let pool = POOL.get_or_init(make).await;
            pool.query_one_scalar::<i32>("SELECT 1", &[]).await.unwrap()
        });
        assert_eq!(answer, 1);
    };
    one(tokio::runtime::Runtime::new().unwrap());
    one(tokio::runtime::Runtime::new().unwrap());
    one(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap());
}
