//! A writer that is killed between its commit and the next line: with two lines the old row stays cached, with one call it
//! does not.

use std::{env, future::pending};

use cenote_cached::{Coherence, Mode, RedisConfig, Source, Sql, Touched};
use cenote_postgres::Pool;
use cenote_testing::{HELPER, helper, start_helper};

use crate::world::{GOODS, Goods, World, pool, read_goods};

const TAKE: &str = "UPDATE goods SET pieces = pieces - 1 WHERE id = 7";

/// Says that the commit is done, and waits to be killed.
async fn be_killed() {
    println!("ready: committed");
    pending::<()>().await;
}

#[tokio::test]
#[ignore = "a helper process of the tests below"]
async fn writer() {
    let Ok(role) = env::var(HELPER) else { return };
    let [way, postgres, redis]: [&str; 3] = role.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let pool: Pool = pool(postgres);
    let mode = Mode::Strong(RedisConfig::from_url(redis).unwrap());
    let cached = cenote_cached::Cached::new(&pool, cenote_cached::Config::new("shop", mode)).unwrap();
    let load = Sql::new(&pool, GOODS, read_goods).version("version");
    let goods = cached.table::<i64, Goods>("goods", load).unwrap();
    cached.ready(crate::world::SOON).await;
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    transaction.execute(TAKE, &[]).await.unwrap();
    match way {
        "two-lines" => {
            transaction.commit().await.unwrap();
            be_killed().await;
            let _never = goods.invalidate(&[7]).await;
        }
        _ => {
            let mut touched = Touched::new();
            touched.add(&goods, &7);
            let commit = async {
                let done = transaction.commit().await;
                be_killed().await;
                done
            };
            let _never = cached.commit(&touched, commit, |_| false).await;
        }
    }
}

/// Caches the row, and has a writer killed between its commit and what follows.
async fn after_a_killed_writer(way: &str) -> (World, crate::world::Instance) {
    let world = World::start().await;
    let reader = world.instance(world.strong()).await;
    assert_eq!(reader.pieces(7).await, 100);
    let role = format!("{way} {} {}", world.postgres.url(), world.redis.url());
    let command = helper(&env::current_exe().unwrap(), "two_lines::writer", &role);
    let started = tokio::task::spawn_blocking(|| start_helper(command)).await;
    let (mut writer, _) = started.unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(world.pieces(7).await, 99);
    (world, reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lines_leave_the_old_row_cached_if_the_writer_is_killed_between_them() {
    let (_world, reader) = after_a_killed_writer("two-lines").await;
    let read = reader.goods.read(&7).await.unwrap();
    assert_eq!(
        (read.value.unwrap().pieces, read.source),
        (100, Source::Redis),
        "the gap"
    );
    // Until somebody says so, or its time to live is over.
    assert_eq!(reader.goods.invalidate(&[7]).await, Coherence::Settled);
    assert_eq!(reader.pieces(7).await, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_fence_the_new_row_is_read_even_if_the_writer_is_killed_after_its_commit() {
    let (_world, reader) = after_a_killed_writer("fenced").await;
    let read = reader.goods.read(&7).await.unwrap();
    assert_eq!(read.value.unwrap().pieces, 99);
}

#[tokio::test]
async fn after_both_lines_every_instance_reads_the_new_row() {
    let world = World::start().await;
    let (one, other) = (
        world.instance(world.strong()).await,
        world.instance(world.strong()).await,
    );
    for round in 1..=20 {
        assert_eq!(other.pieces(7).await, 101 - round);
        world.run(TAKE).await;
        assert_eq!(one.goods.invalidate(&[7]).await, Coherence::Settled);
        assert_eq!(other.pieces(7).await, 100 - round);
    }
}
