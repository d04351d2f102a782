//! A coherent cache before your own table, in two instances of a program.
//!
//!     cargo run --example cached_table
//!
//! [`Shop`] is what a program needs: the table's SQL, what it reads of a row, and one cache for all tables. Rows get their
//! versions from a trigger. A sale changes two tables in one transaction, and touches the row that is cached; no instance reads
//! the old row after that.

use cenote_cached::{Cached, Coherence, Config, Mode, RedisConfig, Sql, Table, WriteError};
use cenote_postgres::{Error, Pool};
use cenote_testing::RedisServer;
use serde::{Deserialize, Serialize};
use std::time::Duration;

// begin: table
#[derive(Serialize, Deserialize)]
struct Goods {
    name: String,
    pieces: i64,
}

const GOODS: &str = "SELECT position, version, name, pieces
    FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) JOIN goods USING (id)
    WHERE position BETWEEN 1 AND 1000000";

struct Shop {
    pool: Pool,
    cached: Cached,
    goods: Table<i64, Goods>,
}

impl Shop {
    fn open(pool: Pool, redis: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mode = Mode::Strong(RedisConfig::from_url(redis)?);
        let cached = Cached::new(&pool, Config::new("shop", mode))?;
        let rows = Sql::new(&pool, GOODS, |row| {
            let (name, pieces) = (row.try_get("name")?, row.try_get("pieces")?);
            Ok(Goods { name, pieces })
        });
        let goods = cached.table("goods", rows.version("version"))?;
        Ok(Self { pool, cached, goods })
    }
}
// end: table

// begin: sell
enum SellError {
    SoldOut,
    Database(Error),
}

impl From<Error> for SellError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl Shop {
    /// Takes pieces out of the stock and notes the order: both or neither. Returns what a customer is told.
    async fn sell(&self, id: i64, pieces: i64) -> String {
        let sold = self.cached.transaction(&self.pool, |transaction, touched| {
            touched.add(&self.goods, &id);
            Box::pin(async move {
                let take = "UPDATE goods SET pieces = pieces - $2 WHERE id = $1 AND pieces >= $2 RETURNING pieces";
                let taken = transaction.query_opt(take, &[&id, &pieces]).await?;
                let note = "INSERT INTO orders (goods, pieces) VALUES ($1, $2)";
                transaction.execute(note, &[&id, &pieces]).await?;
                Ok(taken.ok_or(SellError::SoldOut)?.get::<_, i64>(0))
            })
        });
        match sold.await {
            Ok(done) if done.coherence == Coherence::Settled => format!("sold, {} left", done.output),
            Ok(_) => "sold, but some readers may not see it yet".to_owned(),
            Err(WriteError::NotCommitted(SellError::SoldOut)) => "not sold: too few".to_owned(),
            Err(WriteError::NotCommitted(SellError::Database(error))) => format!("not sold: {}", error.public()),
            Err(WriteError::Unknown(_)) => "sold or not: look before you try again".to_owned(),
            Err(WriteError::NotFenced(error)) => format!("not sold: {error}"),
        }
    }

    async fn show(&self, id: i64) -> Result<String, Error> {
        let read = self.goods.read(&id).await?;
        Ok(match read.value {
            Some(goods) => format!("{} pieces of {}, from {:?}", goods.pieces, goods.name, read.source),
            None => "no such goods".to_owned(),
        })
    }
}
// end: sell

// begin: trigger
const TABLES: &str = "DROP TABLE IF EXISTS goods, orders;
    CREATE TABLE goods (id bigint PRIMARY KEY, name text NOT NULL, pieces bigint NOT NULL,
        version bigint NOT NULL DEFAULT 0);
    CREATE TRIGGER version BEFORE INSERT OR UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION cenote_version();
    CREATE TABLE orders (goods bigint NOT NULL, pieces bigint NOT NULL);
    INSERT INTO goods (id, name, pieces) VALUES (7, 'lamps', 3)";
// end: trigger

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = cenote_examples::database().await?;
    let redis = RedisServer::temporary().start().await?;
    let pool = Pool::new(cenote_postgres::Config::from_url(database.url())?)?;
    cenote_cached::install(&pool).await?;
    pool.get().await?.batch_execute(TABLES).await?;

    let one = Shop::open(pool.clone(), &redis.url())?;
    let other = Shop::open(pool, &redis.url())?;
    for shop in [&one, &other] {
        shop.cached.check().await?;
        shop.cached.ready(Duration::from_secs(30)).await;
    }
    println!("one:   {}", one.show(7).await?);
    println!("other: {}", other.show(7).await?);
    println!("one:   {}", one.sell(7, 2).await);
    println!("other: {}", other.show(7).await?);
    println!("one:   {}", one.show(7).await?);
    println!("other: {}", other.sell(7, 2).await);
    println!("one:   {}", one.show(7).await?);
    redis.kill().await?;
    println!("Redis is killed");
    println!("one:   {}", one.sell(7, 1).await);
    println!("other: {}", other.show(7).await?);
    Ok(())
}
