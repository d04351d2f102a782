//! Queries that clorinde generated, over cenote.
//!
//!     cargo run -p cenote-ecosystem --example clorinde
//!
//! `queries` is what clorinde 2.0 made of `queries/sql`. [`Db`] lets it run on connections and transactions of the pool, with
//! cached statements, command timeouts and counts.

use std::error::Error;

use cenote_clorinde_queries::queries::goods::{add_goods, all_goods, goods_by_name, take_goods};
use cenote_examples::database;
use cenote_postgres::{Config, Pool, tokio_postgres::error::SqlState};
use futures_util::TryStreamExt;

cenote_postgres::clorinde_client!(
    /// A connection or a transaction, for generated queries.
    pub struct Db: cenote_clorinde_queries::client::GenericClient
);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = database().await?;
    let pool = Pool::new(Config::from_url(database.url())?)?;
    let mut connection = pool.get().await?;
    connection.batch_execute(include_str!("queries/schema.sql")).await?;

    for (name, pieces) in [("lamp", 3), ("chair", 4)] {
        add_goods().bind(&Db(&connection), &name, &pieces).await?;
    }
    let again = add_goods().bind(&Db(&connection), &"lamp", &1).await;
    let refused = again.err().and_then(|error| error.code().cloned());
    println!(
        "a second lamp: refused: {}",
        refused == Some(SqlState::UNIQUE_VIOLATION)
    );

    let transaction = connection.transaction().await?;
    let left = take_goods().bind(&Db(&transaction), &2, &"lamp").one().await?;
    println!("{left} lamp left");
    transaction.commit().await?;

    let names: Vec<String> = all_goods()
        .bind(&Db(&connection))
        .map(|goods| format!("{} {}", goods.pieces, goods.name))
        .iter()
        .await?
        .try_collect()
        .await?;
    println!("{}", names.join(", "));

    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT id%WHERE%'";
    for _ in 0..10 {
        goods_by_name().bind(&Db(&connection), &"chair").opt().await?;
    }
    let statements: i64 = connection.query_one(prepared, &[]).await?.get(0);
    println!("10 look-ups with {statements} prepared statement");
    drop(connection);
    println!("{} errors among the statements counted", pool.stats().errors);
    pool.close().await;
    Ok(())
}
