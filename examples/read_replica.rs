//! Reading from a replica: two pools, one for each role.
//!
//!     cargo run --example read_replica
//!
//! Both get the same list of hosts. Which of them a pool connects to is asked of the servers
//! themselves, so after a failover both find their way without a new setting. Without
//! `DATABASE_URL` a private primary and a replica are started; with it, it should name both:
//! `postgresql://app@one,two/shop`.

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

    // A replica is behind, usually by milliseconds. What must see a write that just happened is
    // read from the primary, or waits until the replica has come that far, as here.
    let connection = writes.get().await?;
    connection
        .batch_execute("DROP TABLE IF EXISTS example_news; CREATE TABLE example_news (line text)")
        .await?;
    let news = "INSERT INTO example_news VALUES ('read all about it')
                RETURNING pg_current_wal_insert_lsn()::text";
    let position: String = connection.query_one(news, &[]).await?.get(0);
    drop(connection);
    while !has_come_to(&reads, &position).await? {
        tokio::task::yield_now().await;
    }
    let connection = reads.get().await?;
    let line = connection.query_one("SELECT line FROM example_news", &[]).await?;
    println!("read there: {}", line.get::<_, String>(0));
    drop(connection);

    // Without a replica `prefer-standby` makes do with the primary. Reading may be repeated, so a
    // connection that is lost on the way need not show.
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

/// Whether the server that this pool reads from has everything up to a position in the log of
/// changes. The primary itself has.
async fn has_come_to(pool: &Pool, position: &str) -> Result<bool> {
    let question = "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let connection = pool.get().await?;
    let row = connection.query_one(question, &[&position]).await?;
    Ok(row.get(0))
}
