//! A manager that was ported from another pool has `connect` and `check`, but no `inspect`. Its pool must not hand out
//! dead connections.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use cenote_local::PostgresServer;
use cenote_pool::{Config, Manager, Pool, Retired};
use cenote_testing::RedisServer;
use redis::aio::MultiplexedConnection;
use tokio_postgres::NoTls;

struct Redis(redis::Client);

impl Manager for Redis {
    type Connection = MultiplexedConnection;
    type Error = redis::RedisError;

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        self.0.get_multiplexed_async_connection().await
    }

    async fn check(&self, connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
        redis::cmd("PING").query_async(connection).await
    }
}

struct Postgres(tokio_postgres::Config);

impl Manager for Postgres {
    type Connection = tokio_postgres::Client;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) = self.0.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn check(&self, client: &mut tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
        client.simple_query("").await.map(drop)
    }
}

fn one() -> Config {
    Config {
        max_size: 1,
        ..Config::default()
    }
}

#[tokio::test]
async fn a_connection_to_redis_that_was_killed_is_replaced_before_its_next_use() {
    let server = RedisServer::temporary().start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let pool = Pool::new(Redis(client), one()).unwrap();
    for round in 0..10 {
        let mut connection = pool.get().await.unwrap();
        let id: i64 = redis::cmd("CLIENT")
            .arg("ID")
            .query_async(&mut *connection)
            .await
            .unwrap_or_else(|error| panic!("use {round}: {error}"));
        drop(connection);
        let killed = server.command(&["CLIENT", "KILL", "ID", &id.to_string()]).await;
        assert!(killed.unwrap().contains('1'));
    }
    assert_eq!(pool.stats().retired(Retired::Broken), 9);
    pool.close().await;
}

#[tokio::test]
async fn a_session_of_postgresql_that_was_terminated_is_replaced_before_its_next_use() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let config: tokio_postgres::Config = server.url().parse().unwrap();
    let (administrator, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let pool = Pool::new(Postgres(config), one()).unwrap();
    for round in 0..20 {
        let session = pool.get().await.unwrap();
        let row = session.query_one("SELECT pg_backend_pid()", &[]).await;
        let process: i32 = row.unwrap_or_else(|error| panic!("use {round}: {error}")).get(0);
        drop(session);
        let terminate = "SELECT pg_terminate_backend($1)";
        administrator.query_one(terminate, &[&process]).await.unwrap();
    }
    assert_eq!(pool.stats().retired(Retired::Broken), 19);
    pool.close().await;
}

#[tokio::test]
async fn a_session_marked_as_suspect_is_replaced_if_it_is_dead() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let mut config = cenote_postgres::Config::from_url(&server.url()).unwrap();
    config.pool.max_size = 1;
    let pool = cenote_postgres::Pool::new(config).unwrap();
    let mut session = pool.get().await.unwrap();
    let process = session.process_id();
    session.mark_suspect();
    drop(session);
    let session = pool.get().await.unwrap();
    assert_eq!(session.process_id(), process, "it is checked, and answers");
}
