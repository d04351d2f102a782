//! What a transaction promises: committed, not committed, or unknown, and what readers see of it.

use std::time::Duration;

use cenote_cached::{Coherence, Mode, Source, WriteError};
use cenote_postgres::{Error, tokio_postgres::error::SqlState};
use tokio::task::JoinSet;

use crate::world::{Instance, World, until};

const TAKE: &str = "UPDATE goods SET pieces = pieces - $2 WHERE id = $1 RETURNING pieces";
const NOTE: &str = "INSERT INTO orders (goods, pieces) VALUES ($1, $2)";

/// Takes pieces and notes the order, and returns how many are left.
async fn order(world: &World, instance: &Instance, id: i64, pieces: i64) -> Result<i64, WriteError<Error>> {
    let goods = &instance.goods;
    let work = instance.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &id);
        Box::pin(async move {
            let left = transaction.query_one(TAKE, &[&id, &pieces]).await?.get(0);
            transaction.execute(NOTE, &[&id, &pieces]).await?;
            Ok(left)
        })
    });
    let committed = work.await?;
    assert_eq!(committed.coherence, Coherence::Settled);
    Ok(committed.output)
}

#[tokio::test]
async fn after_a_transaction_every_instance_reads_what_it_wrote() {
    let world = World::start().await;
    let instances = [
        world.instance(world.strong()).await,
        world.instance(world.strong()).await,
    ];
    for round in 0..30 {
        let writer = &instances[round % 2];
        // So that there is something to be stale.
        for instance in &instances {
            instance.pieces(7).await;
        }
        let left = order(&world, writer, 7, 1).await.unwrap();
        for instance in &instances {
            assert_eq!(instance.pieces(7).await, left);
        }
    }
    let noted: i64 = world
        .pool
        .query_one("SELECT sum(pieces)::bigint FROM orders", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!((world.pieces(7).await, noted), (70, 30));
    assert!(instances[0].cached.stats().redis_hits > 0);
}

#[tokio::test]
async fn in_one_process_a_transaction_is_seen_at_once() {
    let world = World::start().await;
    let one = world.instance(Mode::Local).await;
    assert_eq!(one.pieces(7).await, 100);
    assert_eq!(one.goods.read(&7).await.unwrap().source, Source::Near);
    order(&world, &one, 7, 4).await.unwrap();
    assert_eq!(one.pieces(7).await, 96);
}

#[tokio::test]
async fn a_new_row_replaces_its_cached_absence() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.goods.get(&500).await.unwrap(), None);
    let goods = &one.goods;
    let added = one.cached.transaction(&world.pool, |transaction, touched| {
        Box::pin(async move {
            let add = "INSERT INTO goods (id, name, pieces) VALUES (500, 'new', 5) RETURNING id";
            // The key may be known only afterwards.
            touched.add(goods, &transaction.query_one(add, &[]).await?.get(0));
            Ok::<_, Error>(())
        })
    });
    assert_eq!(added.await.unwrap().coherence, Coherence::Settled);
    assert_eq!(one.pieces(500).await, 5);
}

#[derive(Debug)]
enum ShopError {
    SoldOut,
    Database,
}

impl From<Error> for ShopError {
    fn from(_: Error) -> Self {
        Self::Database
    }
}

#[tokio::test]
async fn work_that_fails_commits_nothing_and_leaves_the_cache_as_it_was() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.pieces(7).await, 100);
    let goods = &one.goods;
    let mut attempts = 0;
    let refused = one.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &7);
        attempts += 1;
        Box::pin(async move {
            let left: i64 = transaction.query_one(TAKE, &[&7_i64, &1_000_i64]).await?.get(0);
            if left < 0 { Err(ShopError::SoldOut) } else { Ok(left) }
        })
    });
    assert!(matches!(
        refused.await,
        Err(WriteError::NotCommitted(ShopError::SoldOut))
    ));
    assert_eq!(attempts, 1);
    let read = one.goods.read(&7).await.unwrap();
    assert_eq!((read.value.unwrap().pieces, read.source), (100, Source::Redis));
}

#[tokio::test]
async fn work_that_loses_against_another_transaction_is_repeated() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let goods = &one.goods;
    let mut attempts = 0;
    let written = one.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &7);
        attempts += 1;
        let lost = attempts < 3;
        Box::pin(async move {
            transaction.query_one(TAKE, &[&7_i64, &1_i64]).await?;
            if lost {
                let lose = "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$";
                transaction.batch_execute(lose).await?;
            }
            Ok::<_, ShopError>(())
        })
    });
    assert_eq!(written.await.unwrap().coherence, Coherence::Settled);
    assert_eq!((attempts, one.pieces(7).await), (3, 99));
}

/// Makes each commit that changes goods run these statements at its end.
async fn at_commit(world: &World, statements: &str) {
    let sql = format!(
        "CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statements}; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON goods DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION at_commit()"
    );
    world.run(&sql).await;
}

#[tokio::test]
async fn a_refused_commit_is_not_committed_and_its_keys_are_cached_again() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    at_commit(&world, "RAISE EXCEPTION 'no' USING ERRCODE = '23514'").await;
    let refused = order(&world, &one, 7, 1).await;
    let Err(WriteError::NotCommitted(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION));
    // Well before the fence would expire by itself, were it not released.
    until("the row is cached", async || {
        one.goods.read(&7).await.unwrap().source == Source::Redis
    })
    .await;
    assert_eq!(one.pieces(7).await, 100);
}

#[tokio::test]
async fn a_deferred_trigger_runs_before_the_keys_are_fenced() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.pieces(7).await, 100);
    // Until somebody says that the row was read meanwhile.
    world.run("CREATE TABLE seen ()").await;
    at_commit(
        &world,
        "WHILE NOT EXISTS (SELECT FROM seen) LOOP PERFORM pg_sleep(0.01); END LOOP",
    )
    .await;
    let reading = async {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until("the trigger runs", async || {
            world.pool.query_one(sleeping, &[]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        let read = one.goods.read(&7).await.unwrap();
        world.run("INSERT INTO seen DEFAULT VALUES").await;
        read.source
    };
    let (left, source) = tokio::join!(order(&world, &one, 7, 1), reading);
    assert_eq!((left.unwrap(), source), (99, Source::Redis));
    assert_eq!(one.pieces(7).await, 99);
}

/// Takes a piece in a transaction whose commit waits for a standby.
async fn order_that_waits(world: &World, instance: &Instance) -> Result<Coherence, WriteError<Error>> {
    let goods = &instance.goods;
    let work = instance.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &7);
        Box::pin(async move {
            transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
            transaction.query_one(TAKE, &[&7_i64, &1_i64]).await?;
            Ok(())
        })
    });
    Ok(work.await?.coherence)
}

/// Waits until a commit waits for a standby, and returns its process.
async fn waiting_commit(world: &World) -> i32 {
    let mut found = None;
    until("a commit waits", async || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        found = world.pool.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0));
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_is_seen_if_it_took_effect() {
    let world = World::with_commits_that_wait().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.pieces(7).await, 100);
    let terminate = async {
        let process = waiting_commit(&world).await;
        world
            .pool
            .query_one("SELECT pg_terminate_backend($1)", &[&process])
            .await
            .unwrap();
    };
    let (cut_off, ()) = tokio::join!(order_that_waits(&world, &one), terminate);
    assert!(matches!(cut_off, Err(WriteError::Unknown(_))), "{cut_off:?}");
    until("the commit took effect", async || world.pieces(7).await == 99).await;
    assert_eq!(one.pieces(7).await, 99);
    // The fence ends by itself.
    until("the row is cached", async || {
        one.goods.read(&7).await.unwrap().source == Source::Redis
    })
    .await;
    assert_eq!(one.pieces(7).await, 99);
}

#[tokio::test]
async fn a_commit_that_outlasts_its_fence_is_seen_once_it_is_acknowledged() {
    let world = World::with_commits_that_wait().await;
    let one = world.instance(world.strong()).await;
    let operator = async {
        let process = waiting_commit(&world).await;
        // The fence has expired, and the old row is cached.
        until("the row is cached", async || {
            one.goods.read(&7).await.unwrap().source == Source::Redis
        })
        .await;
        assert_eq!(one.pieces(7).await, 100);
        // It goes on without the standby.
        world
            .pool
            .query_one("SELECT pg_cancel_backend($1)", &[&process])
            .await
            .unwrap();
    };
    let (written, ()) = tokio::join!(order_that_waits(&world, &one), operator);
    assert_eq!(written.unwrap(), Coherence::Settled);
    assert_eq!(one.pieces(7).await, 99);
}

#[tokio::test]
async fn a_transaction_that_dies_before_its_commit_is_not_committed() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let goods = &one.goods;
    let died = one.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &7);
        Box::pin(async move {
            transaction.query_one(TAKE, &[&7_i64, &1_i64]).await?;
            transaction
                .execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(3600)", &[])
                .await?;
            Ok::<_, ShopError>(())
        })
    });
    let died = died.await;
    assert!(
        matches!(died, Err(WriteError::NotCommitted(ShopError::Database))),
        "{died:?}"
    );
    assert_eq!(one.pieces(7).await, 100);
}

#[tokio::test]
async fn one_transaction_may_change_several_tables_and_one_that_touches_nothing_needs_no_redis() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let load = cenote_cached::Sql::new(
        &world.pool,
        "SELECT position, sum(pieces)::bigint AS ordered
         FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (goods, position) JOIN orders USING (goods)
         GROUP BY position",
        |row| row.try_get::<_, i64>("ordered"),
    );
    let ordered = one.cached.table::<i64, i64>("ordered", load).unwrap();
    let (goods, totals) = (&one.goods, &ordered);
    for round in 1..=3_i64 {
        let written = one.cached.transaction(&world.pool, |transaction, touched| {
            touched.add(totals, &7);
            touched.add_many(goods, &[7, 8]);
            Box::pin(async move {
                transaction.query_one(TAKE, &[&7_i64, &1_i64]).await?;
                transaction.query_one(TAKE, &[&8_i64, &1_i64]).await?;
                transaction.execute(NOTE, &[&7_i64, &2_i64]).await
            })
        });
        assert_eq!(written.await.unwrap().coherence, Coherence::Settled);
        assert_eq!(ordered.get(&7).await.unwrap().as_deref(), Some(&(2 * round)));
        assert_eq!((one.pieces(7).await, one.pieces(8).await), (100 - round, 100 - round));
    }
    let fences = one.cached.stats().fences;
    let idle = one.cached.transaction(&world.pool, |transaction, _| {
        Box::pin(async move { transaction.execute("SELECT 1", &[]).await })
    });
    assert_eq!(idle.await.unwrap().coherence, Coherence::Settled);
    assert_eq!(one.cached.stats().fences, fences);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_transactions_on_one_row_are_all_counted() {
    let world = std::sync::Arc::new(World::start().await);
    let instance = std::sync::Arc::new(world.instance(world.strong()).await);
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (world, instance) = (world.clone(), instance.clone());
        writers.spawn(async move {
            for _ in 0..5 {
                let left = order(&world, &instance, 7, 1).await.unwrap();
                assert!(instance.pieces(7).await <= left);
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!((instance.pieces(7).await, world.pieces(7).await), (60, 60));
}

#[tokio::test]
async fn without_redis_a_transaction_waits_until_none_is_trusted_and_then_commits() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.pieces(7).await, 100);
    world.redis.kill().await.unwrap();
    until("a write gets through", async || match order(&world, &one, 7, 1).await {
        Ok(_) => true,
        Err(WriteError::NotFenced(_)) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(one.pieces(7).await, 99);
    world.redis.restart().await.unwrap();
    assert_eq!(one.cached.ready(crate::world::SOON).await, cenote_cached::State::Ok);
    order(&world, &one, 7, 1).await.unwrap();
    assert_eq!(one.pieces(7).await, 98);
}

#[tokio::test]
async fn a_failed_fence_rolls_the_transaction_back() {
    let world = World::start().await;
    let mut config = cenote_cached::Config::new("shop", world.strong());
    config.write_patience = Duration::ZERO;
    let cached = cenote_cached::Cached::new(&world.pool, config).unwrap();
    let load = cenote_cached::Sql::new(&world.pool, crate::world::GOODS, crate::world::read_goods);
    let goods = cached.table("goods", load).unwrap();
    assert_eq!(cached.ready(crate::world::SOON).await, cenote_cached::State::Ok);
    let instance = Instance { cached, goods };
    let (goods, redis) = (&instance.goods, &world.redis);
    let refused = instance.cached.transaction(&world.pool, |transaction, touched| {
        touched.add(goods, &7);
        Box::pin(async move {
            transaction.query_one(TAKE, &[&7_i64, &1_i64]).await?;
            redis.freeze().await.unwrap();
            Ok::<_, Error>(())
        })
    });
    let refused = refused.await;
    world.redis.thaw().await.unwrap();
    assert!(matches!(refused, Err(WriteError::NotFenced(_))), "{refused:?}");
    assert_eq!(world.pieces(7).await, 100);
}
