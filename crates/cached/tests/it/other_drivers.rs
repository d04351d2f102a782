//! The same with `tokio_postgres` alone: no pool, no cenote driver.

use std::sync::Arc;

use cenote_cached::{
    BEFORE_COMMIT, Cached, Coherence, Config, Database, Load, Source, State, Table, Touched, Versioned, WriteError,
};
use tokio_postgres::{Client, NoTls};

use crate::world::{GOODS, Goods, SOON, World, read_goods};

/// The driver's error, of which every reader gets a clone.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
struct Shared(Arc<tokio_postgres::Error>);

impl From<tokio_postgres::Error> for Shared {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(Arc::new(error))
    }
}

#[derive(Clone)]
struct Driver(Arc<Client>);

impl Database for Driver {
    type Error = Shared;

    async fn run(&self, sql: &str) -> Result<Option<String>, Shared> {
        let row = self.0.query_opt(sql, &[]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

impl Load<i64, Goods> for Driver {
    type Error = Shared;

    async fn load(&self, keys: Vec<i64>) -> Result<Vec<Option<Versioned<Goods>>>, Shared> {
        let mut found = vec![None; keys.len()];
        for row in self.0.query(GOODS, &[&keys]).await? {
            let position = usize::try_from(row.try_get::<_, i64>("position")?).unwrap();
            found[position - 1] = Some(Versioned {
                version: row.try_get("version")?,
                value: read_goods(&row)?,
            });
        }
        Ok(found)
    }
}

async fn client(world: &World) -> Client {
    let (client, connection) = tokio_postgres::connect(&world.postgres.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn instance(world: &World) -> (Cached<Shared>, Table<i64, Goods, Shared>) {
    // The epoch has a connection of its own.
    let cached = Cached::over(
        Driver(Arc::new(client(world).await)),
        Config::new("shop", world.strong()),
    )
    .unwrap();
    let goods = cached.table("goods", Driver(Arc::new(client(world).await))).unwrap();
    assert_eq!(cached.ready(SOON).await, State::Ok);
    cached.check().await.unwrap();
    (cached, goods)
}

#[tokio::test]
async fn a_transaction_of_another_driver_is_seen_by_every_instance() {
    let world = World::start().await;
    let (cached, goods) = instance(&world).await;
    // Both drivers share what is cached.
    let other = world.instance(world.strong()).await;
    let mut writer = client(&world).await;
    for round in 1..=20 {
        assert_eq!(goods.get(&7).await.unwrap().unwrap().pieces, 101 - round);
        assert_eq!(other.goods.read(&7).await.unwrap().source, Source::Redis);

        cached.unobstructed().await.unwrap();
        let transaction = writer.transaction().await.unwrap();
        let mut touched = Touched::new();
        touched.add(&goods, &7);
        transaction
            .execute("UPDATE goods SET pieces = pieces - 1 WHERE id = 7", &[])
            .await
            .unwrap();
        transaction.batch_execute(BEFORE_COMMIT).await.unwrap();
        let refused = |error: &tokio_postgres::Error| error.as_db_error().is_some();
        let committed = cached.commit(&touched, transaction.commit(), refused).await.unwrap();
        assert_eq!(committed.coherence, Coherence::Settled);

        assert_eq!(other.pieces(7).await, 100 - round);
    }
}

#[tokio::test]
async fn a_refused_commit_of_another_driver_is_told_from_one_without_an_answer() {
    let world = World::start().await;
    let (cached, goods) = instance(&world).await;
    let mut touched = Touched::new();
    touched.add(&goods, &7);
    let answer = |refused: bool| {
        let (cached, touched) = (&cached, &touched);
        async move { cached.commit(touched, async { Err::<(), _>("no") }, |_| refused).await }
    };
    assert!(matches!(answer(true).await, Err(WriteError::NotCommitted("no"))));
    crate::world::until("the row is cached", async || {
        goods.read(&7).await.unwrap().source == Source::Redis
    })
    .await;
    assert!(matches!(answer(false).await, Err(WriteError::Unknown("no"))));
    assert_eq!(goods.read(&7).await.unwrap().source, Source::Database);
}
