//! Reading from a replica: two pools, one for each role.
//!
//!     cargo run --example read_replica
//!
//! Both pools get the same list of hosts, and ask the servers for their roles. So after a failover both find their
//! servers without a new setting. Without `DATABASE_URL` a private primary and a replica are started; with it, the URL
//! should name both: `postgresql://app@one,two/shop`.

use std::error::Error;

use cenote_postgres::{Config, Pool, Result};

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let servers = cenote_examples::primary_and_replica().await?;
    let pool = |role: &str| -> std::result::Result<Pool, Box<dyn Error>> {
        let url = format!("{}?target_session_attrs={role}", servers.url());
        Ok(Pool::new(Config::from_url(&url)?)?)
    };
    let writes = pool("read-write")?;
    let reads = pool("prefer-standby")?;
    println!("writes go to {}", role(&writes).await?);
    println!("reads go to {}", role(&reads).await?);

    // A replica is behind, usually by milliseconds. A read that must see a recent write goes to the primary, or waits
    // until the replica has replayed the write, as here.
    let connection = writes.get().await?;
    connection
        .batch_execute("DROP TABLE IF EXISTS example_news; CREATE TABLE example_news (line text)")
        .await?;
    let news = "INSERT INTO example_news VALUES ('read all about it')
                RETURNING pg_current_wal_insert_lsn()::text";
    let position: String = connection.query_one(news, &[]).await?.get(0);
    drop(connection);
    while !has_replayed(&reads, &position).await? {
        tokio::task::yield_now().await;
    }
    let connection = reads.get().await?;
    let line = connection.query_one("SELECT line FROM example_news", &[]).await?;
    println!("read there: {}", line.get::<_, String>(0));
    drop(connection);

    // Without a replica, `prefer-standby` uses the primary. A read may be repeated, so a lost connection is no error
    // here.
    if servers.stop_replica().await? {
        println!("then reads go to {}", role(&reads).await?);
    }
    writes.close().await;
    reads.close().await;
    Ok(())
}

async fn role(pool: &Pool) -> Result<&'static str> {
    let question = "SELECT pg_is_in_recovery()";
    let answer = pool
        .retry_idempotent(|| async { pool.get().await?.query_one(question, &[]).await })
        .await?;
    Ok(if answer.get(0) { "a standby" } else { "the primary" })
}

/// Whether the server of this pool has everything up to a position of the write-ahead log. The primary always has.
async fn has_replayed(pool: &Pool, position: &str) -> Result<bool> {
    let question = "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let connection = pool.get().await?;
    let row = connection.query_one(question, &[&position]).await?;
    Ok(row.get(0))
}
