//! A coherent cache before your own PostgreSQL table, in process and in Redis.
//!
//! A [`Table`] says how the rows of a table are found by key. [`Table::get`] answers from this process, from Redis or from
//! the database; in the mode [`Strong`](Mode::Strong) never with a row that an acknowledged write has replaced, whichever
//! instance wrote it and whatever happens to Redis. A write goes through [`Cached::transaction`], which must be told the keys
//! that it changes.
//!
//! ```no_run
//! use cenote_cached::{Cached, Coherence, Config, Mode, RedisConfig, Sql, Table};
//! use cenote_postgres::Pool;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Goods {
//!     name: String,
//!     pieces: i64,
//! }
//!
//! // The first column must be `position`: it says which key a row belongs to.
//! const GOODS: &str = "SELECT position, version, name, pieces
//!     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) JOIN goods USING (id)
//!     WHERE position BETWEEN 1 AND 1000000";
//!
//! # async fn example(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
//! cenote_cached::install(&pool).await?; // or MIGRATION, among your own migrations
//! let mode = Mode::Strong(RedisConfig::from_url("redis://localhost")?);
//! let cached = Cached::new(&pool, Config::new("shop", mode))?;
//! let read = |row: &cenote_postgres::tokio_postgres::Row| {
//!     let (name, pieces) = (row.try_get("name")?, row.try_get("pieces")?);
//!     Ok(Goods { name, pieces })
//! };
//! let goods: Table<i64, Goods> = cached.table("goods", Sql::new(&pool, GOODS, read).version("version"))?;
//!
//! if let Some(lamp) = goods.get(&7).await? {
//!     println!("{} pieces of {}", lamp.pieces, lamp.name);
//! }
//! let sold = cached
//!     .transaction(&pool, |transaction, touched| {
//!         touched.add(&goods, &7);
//!         Box::pin(async move {
//!             transaction.execute("UPDATE goods SET pieces = pieces - 1 WHERE id = $1", &[&7_i64]).await
//!         })
//!     })
//!     .await?;
//! assert_eq!(sold.coherence, Coherence::Settled); // every read sees it from now on
//! # Ok(())
//! # }
//! ```
//!
//! # Writes
//!
//! | Way | A read that begins after it returned | If the process dies on the way |
//! |---|---|---|
//! | [`Cached::transaction`] | sees the write | nothing is stale |
//! | [`Cached::commit`], for transactions of another driver | sees the write | nothing is stale |
//! | a commit, then [`Table::invalidate`] | sees the write | **the gap:** after the commit and before `invalidate`, the old row stays cached for up to its time to live |
//! | a program that knows nothing of the cache, with [`Cached::follow_changes`] | sees the write some milliseconds later | the same |
//! | the same without it | sees it when the time to live is over | the same |
//!
//! A key that a transaction changes without [touching](Touched::add) it is in the last row.
//!
//! # Versions
//!
//! | Versions | Promise in `strong` |
//! |---|---|
//! | a trigger: `CREATE TRIGGER version BEFORE INSERT OR UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION cenote_version()`, with a column `version bigint NOT NULL DEFAULT 0` | reads see every acknowledged write, and never go back, not even behind a write that is not yet acknowledged |
//! | a `bigint` column that each statement raises, and that never starts again | the same, as long as every statement keeps to it |
//! | none: no call of [`Sql::version`] | reads see every acknowledged write. They may go back behind one that is not yet acknowledged, if Redis loses a fence meanwhile |
//!
//! # Other drivers
//!
//! The epoch needs one function, [`Database::run`], a table another, [`Load::load`]: with these, [`Cached::over`] works with
//! `tokio_postgres` alone, with sqlx, or with any other driver.
//!
//! `docs/coherence.md` has the protocol and what it promises in each mode.

#![warn(clippy::significant_drop_tightening)]

mod codec;
mod database;
mod epoch;
mod key;
mod release;

mod load;
mod origin;
mod read;
mod sql;
mod table;
mod touched;

mod change_feed;
mod install;
mod names;

mod cached;
mod check;
mod commit;
mod transaction;

pub use cached::{Cached, InvalidCached};
pub use cenote_cache::{
    Coherence, Config, ConfigError, DegradedReason, Mode, NotFenced, RedisConfig, RedisProblem, RedisUrl, Source,
    State, Stats, Timing, Ttl,
};
pub use change_feed::FeedStats;
pub use check::{CheckError, TableProblem};
pub use codec::{Codec, Json};
pub use commit::{BEFORE_COMMIT, Committed, WriteError};
pub use database::{Database, DatabaseError};
pub use install::{MIGRATION, install};
pub use key::Key;
pub use load::{Load, Versioned};
pub use read::Read;
pub use sql::Sql;
pub use table::Table;
pub use touched::Touched;
