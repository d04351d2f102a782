//! A transaction that is tried again when it loses against another.
//!
//!     cargo run --example transaction_retry
//!
//! With `SERIALIZABLE`, PostgreSQL refuses one of two transactions that contradict each other, and expects the program
//! to repeat it. [`Pool::retry`] tries again only if the error passes by itself *and* the failed try certainly had no
//! effect. A commit whose answer was lost is not repeated; see [`Error::is_outcome_unknown`](cenote_postgres::Error).

use std::{
    error::Error,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cenote_postgres::{Config, Pool, Result, Retry};
use futures_util::future::try_join_all;

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let database = cenote_examples::database().await?;
    let mut config = Config::from_url(database.url())?;
    config.retry = Retry {
        attempts: 50,
        delay: Duration::from_millis(2),
    };
    let pool = Pool::new(config)?;
    pool.get()
        .await?
        .batch_execute(
            "DROP TABLE IF EXISTS example_accounts;
             CREATE TABLE example_accounts (owner text PRIMARY KEY, cents bigint CHECK (cents >= 0));
             INSERT INTO example_accounts VALUES ('ada', 1000), ('grace', 1000)",
        )
        .await?;

    // Forty transfers in both directions at once: many are refused, and all succeed in the end.
    let tries = AtomicU32::new(0);
    let cents = |number| if number % 2 == 0 { 10 } else { -10 };
    try_join_all((0..40).map(|number| transfer(&pool, cents(number), &tries))).await?;
    println!("40 transfers took {} tries", tries.into_inner());

    // An error that does not pass by itself, here a violated CHECK, is not tried again.
    let once = AtomicU32::new(0);
    let refused = transfer(&pool, 1_000_000, &once).await;
    println!("too much: refused after {} try", once.into_inner());
    assert!(refused.is_err_and(|error| error.constraint().is_some()));

    let connection = pool.get().await?;
    let sum = connection
        .query_one("SELECT sum(cents)::bigint FROM example_accounts", &[])
        .await?;
    println!("{} cents in all", sum.get::<_, i64>(0));
    connection.batch_execute("DROP TABLE example_accounts").await?;
    drop(connection);
    pool.close().await;
    Ok(())
}

/// The closure is what is repeated, so each try acquires a connection and begins a transaction.
async fn transfer(pool: &Pool, cents: i64, tries: &AtomicU32) -> Result<()> {
    pool.retry(|| async {
        tries.fetch_add(1, Relaxed);
        let mut connection = pool.get().await?;
        let transaction = connection.transaction().await?;
        transaction
            .batch_execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            .await?;
        let change = "UPDATE example_accounts SET cents = cents + $2 WHERE owner = $1";
        transaction.execute(change, &[&"ada", &-cents]).await?;
        transaction.execute(change, &[&"grace", &cents]).await?;
        transaction.commit().await // without this line it is rolled back
    })
    .await
}
