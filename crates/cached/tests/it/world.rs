//! A table of goods, and instances of a program that caches it. Invariant: a wait looks for what it waits for and has a bound.

use std::time::Duration;

use cenote_cached::{Cached, Config, Mode, RedisConfig, Sql, State, Table};
use cenote_local::{PostgresBuilder, PostgresServer};
use cenote_postgres::{Pool, tokio_postgres::Row};
use cenote_testing::RedisServer;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// A bound against hanging: far more than anything takes, even on a slow machine that does other work.
pub(crate) const SOON: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Goods {
    pub(crate) name: String,
    pub(crate) pieces: i64,
}

pub(crate) const GOODS: &str = "SELECT position, version, name, pieces \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) JOIN goods USING (id) \
     WHERE position BETWEEN 1 AND 1000000";

const TABLES: &str = "CREATE TABLE goods (
         id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT 0, name text NOT NULL, pieces bigint NOT NULL
     );
     CREATE TRIGGER version BEFORE INSERT OR UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION cenote_version();
     INSERT INTO goods SELECT id, 0, 'goods ' || id, 100 FROM generate_series(1, 100) AS id;
     CREATE TABLE orders (
         id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, goods bigint NOT NULL, pieces bigint NOT NULL
     )";

pub(crate) fn read_goods(row: &Row) -> Result<Goods, cenote_postgres::tokio_postgres::Error> {
    let (name, pieces) = (row.try_get("name")?, row.try_get("pieces")?);
    Ok(Goods { name, pieces })
}

/// The servers.
pub(crate) struct World {
    pub(crate) postgres: PostgresServer,
    pub(crate) redis: RedisServer,
    pub(crate) pool: Pool,
}

/// A process of the program, as far as the cache is concerned.
pub(crate) struct Instance {
    pub(crate) cached: Cached,
    pub(crate) goods: Table<i64, Goods>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(PostgresServer::temporary()).await
    }

    /// Servers of which a commit waits for a standby that never comes, if it has `synchronous_commit = on`.
    pub(crate) async fn with_commits_that_wait() -> Self {
        let waits = PostgresServer::temporary().setting("synchronous_standby_names", "nobody");
        Self::with(waits.setting("synchronous_commit", "local")).await
    }

    async fn with(postgres: PostgresBuilder) -> Self {
        let (postgres, redis) = tokio::join!(postgres.start(), RedisServer::temporary().start());
        let (postgres, redis) = (postgres.unwrap(), redis.unwrap());
        let pool = pool(&postgres.url());
        cenote_cached::install(&pool).await.unwrap();
        pool.get().await.unwrap().batch_execute(TABLES).await.unwrap();
        Self { postgres, redis, pool }
    }

    pub(crate) fn strong(&self) -> Mode {
        Mode::Strong(RedisConfig::from_url(&self.redis.url()).unwrap())
    }

    pub(crate) fn bounded(&self) -> Mode {
        Mode::Bounded {
            redis: RedisConfig::from_url(&self.redis.url()).unwrap(),
            max_staleness: Duration::from_millis(500),
        }
    }

    /// An instance that uses its cache.
    pub(crate) async fn instance(&self, mode: Mode) -> Instance {
        let cached = Cached::new(&self.pool, Config::new("shop", mode)).unwrap();
        let load = Sql::new(&self.pool, GOODS, read_goods).version("version");
        let goods = cached.table("goods", load).unwrap();
        assert_eq!(cached.ready(SOON).await, State::Ok);
        Instance { cached, goods }
    }

    pub(crate) async fn run(&self, statements: &str) {
        self.pool.get().await.unwrap().batch_execute(statements).await.unwrap();
    }

    /// The pieces of these goods that the database has.
    pub(crate) async fn pieces(&self, id: i64) -> i64 {
        let sql = "SELECT pieces FROM goods WHERE id = $1";
        self.pool.query_one(sql, &[&id]).await.unwrap().get(0)
    }
}

impl Instance {
    /// The pieces of these goods as a reader sees them.
    pub(crate) async fn pieces(&self, id: i64) -> i64 {
        self.goods.get(&id).await.unwrap().unwrap().pieces
    }
}

pub(crate) fn pool(url: &str) -> Pool {
    let mut config = cenote_postgres::Config::from_url(url).unwrap();
    config.command_timeout = Some(Duration::from_secs(20));
    config.retry.delay = Duration::from_millis(5);
    Pool::new(config).unwrap()
}

/// Looks again and again until the condition holds; fails after [`SOON`].
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
