//! What `check` finds.

use cenote_cached::{Cached, CheckError, Config, Mode, RedisConfig, Sql};

use crate::world::{Goods, World, pool, read_goods};

#[tokio::test]
async fn check_names_what_is_missing() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    one.cached.check().await.unwrap();

    let load = Sql::new(
        &world.pool,
        "SELECT position FROM unnest($1::bigint[]) AS wanted (id)",
        read_goods,
    );
    let _wrong = one.cached.table::<i64, Goods>("wrong", load).unwrap();
    let error = one.cached.check().await.unwrap_err();
    assert!(
        error.to_string().starts_with("the rows of wrong cannot be read"),
        "{error}"
    );

    world
        .run("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON cache_epoch TO reader")
        .await;
    let mut config = world.pool.config().clone();
    config.server.user("reader").password("reader");
    let pool_of_reader = cenote_postgres::Pool::new(config).unwrap();
    let reader = Cached::new(&pool_of_reader, Config::new("shop", world.strong())).unwrap();
    assert!(matches!(reader.check().await, Err(CheckError::EpochRights)));

    world.postgres.create_database("empty").await.unwrap();
    let empty = pool(&world.postgres.url_for("empty"));
    let cached = Cached::new(&empty, Config::new("shop", world.strong())).unwrap();
    let error = cached.check().await.unwrap_err();
    assert!(matches!(error, CheckError::Epoch(_)), "{error}");
    assert!(error.to_string().contains("cenote_cached::install"), "{error}");

    let mode = Mode::Strong(RedisConfig::from_url("redis://127.0.0.1:1").unwrap());
    let nowhere = Cached::new(&world.pool, Config::new("shop", mode)).unwrap();
    assert!(matches!(nowhere.check().await, Err(CheckError::Redis(_))));
}

#[tokio::test]
async fn the_epoch_may_be_in_a_schema_of_its_own() {
    let world = World::start().await;
    let name = "My \"schema\"";
    let quoted = "\"My \"\"schema\"\"\"";
    world
        .run(&format!(
            "CREATE SCHEMA {quoted}; ALTER TABLE cache_epoch SET SCHEMA {quoted}"
        ))
        .await;
    let cached = Cached::in_schema(&world.pool, name, Config::new("shop", world.strong())).unwrap();
    cached.check().await.unwrap();
    assert_eq!(cached.ready(crate::world::SOON).await, cenote_cached::State::Ok);
}
