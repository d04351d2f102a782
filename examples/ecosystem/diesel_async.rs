//! diesel-async over cenote's pool for any kind of connection.
//!
//!     cargo run -p cenote-ecosystem --example diesel_async
//!
//! [`Diesel`] is all that it needs. diesel hides the wire, so the pool asks it whether a transaction was left open, and asks the
//! server before each use whether the connection still works, as diesel-async's own pools do by default.

use std::error::Error;

use cenote_examples::database;
use cenote_pool::{AnyError, Condition, Config, Manager, Pool, Pooled, Retired};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager};

#[allow(missing_docs, reason = "generated")]
mod schema {
    diesel::table! {
        goods (name) {
            name -> Text,
            pieces -> BigInt,
        }
    }
}
use schema::goods;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = goods)]
struct Goods {
    name: String,
    pieces: i64,
}

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Opens and checks connections of diesel-async.
struct Diesel {
    url: String,
}

impl Manager for Diesel {
    type Connection = AsyncPgConnection;
    type Error = AnyError;

    async fn connect(&self) -> Result<AsyncPgConnection, AnyError> {
        let connection = AsyncPgConnection::establish(&self.url).await;
        connection.map_err(AnyError::new)
    }

    fn inspect(&self, connection: &mut AsyncPgConnection) -> Condition {
        match Transactions::is_broken_transaction_manager(connection) {
            // A transaction is open: its future was dropped.
            true => Condition::Broken,
            false => Condition::Unknown,
        }
    }

    async fn check(&self, connection: &mut AsyncPgConnection) -> Result<(), AnyError> {
        let answer = diesel::sql_query("SELECT 1").execute(connection).await;
        answer.map(drop).map_err(AnyError::new)
    }
}

async fn take(connection: &mut AsyncPgConnection, wanted: &str) -> QueryResult<i64> {
    diesel::update(goods::table.find(wanted))
        .set(goods::pieces.eq(goods::pieces - 1))
        .returning(goods::pieces)
        .get_result(connection)
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = database().await?;
    let url = database.url().to_owned();
    let config = Config {
        max_size: 2,
        ..Config::default()
    };
    let pool = Pool::new(Diesel { url }, config)?;
    let mut connection: Pooled<'_, Diesel> = pool.get().await?;
    connection
        .batch_execute("CREATE TABLE goods (name text PRIMARY KEY, pieces bigint NOT NULL)")
        .await?;
    let lamp = Goods {
        name: "lamp".to_owned(),
        pieces: 3,
    };
    diesel::insert_into(goods::table)
        .values(&lamp)
        .execute(&mut *connection)
        .await?;

    let left = connection
        .transaction(async |connection| take(connection, "lamp").await)
        .await?;
    println!("{left} lamps left");

    // Begun and never ended, as by a future that was dropped: the pool closes this connection.
    Transactions::begin_transaction(&mut *connection).await?;
    take(&mut connection, "lamp").await?;
    drop(connection);

    let mut connection = pool.get().await?;
    let all: Vec<Goods> = goods::table.select(Goods::as_select()).load(&mut *connection).await?;
    for goods in all {
        println!("{} {}", goods.pieces, goods.name);
    }
    drop(connection);
    println!("{} connection closed", pool.stats().retired(Retired::Broken));
    pool.close().await;
    Ok(())
}
