use cenote_postgres::Config as PoolConfig;

use super::{schema::Waiting, *};

struct Silent;

impl Waiting for Silent {
    fn on(&self, _: Option<(&str, Duration)>) {}
}

#[tokio::test]
async fn a_statement_for_many_callers_is_planned_once_even_for_small_batches() {
    let server = cenote_local::PostgresServer::temporary().start().await;
    let server = server.unwrap();
    let mut config = PoolConfig::from_url(&server.url()).unwrap();
    config.pool.min_size = Some(0);
    config.pool.max_size = 1;
    let pool = Pool::new(config).unwrap();
    let tables = Tables {
        schema: SchemaName::default(),
        backlog: Backlog {
            bytes: 1 << 20,
            wait: Duration::from_secs(10),
        },
    };
    let migration = schema::Migration {
        schema: SchemaName::default(),
        extras: schema::Extras::default(),
    };
    migration.run(&pool, &Silent, None).await.unwrap();
    let stores = Store::per_runtime(&pool, Config::new("test", Mode::Off), &tables);
    let store = stores.unwrap().remove(0);
    let user = store.users.add("Ada", "ada@example.org").await.unwrap();
    let user = user.unwrap().user().id;
    for n in 0..10 {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        store.keys.write(key.clone(), value.clone()).await.unwrap();
        let read = store.keys.read(&key).await.unwrap().value.unwrap();
        assert_eq!((read.version, &*read.bytes), (1, value.as_bytes()));
        assert!(store.keys.delete(&key).await.unwrap().is_some());
        assert!(store.users.get(user).await.unwrap().is_some());
    }
    let plans = "SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements \
         WHERE statement ~ 'unnest[(]|set_config[(]'";
    let connection = pool.get().await.unwrap();
    let plans = connection.query(plans, &[]).await.unwrap();
    assert_eq!(plans.len(), 4, "reads, writes, other changes, users");
    for row in plans {
        // PostgreSQL plans the first five executions for their parameters, then compares with a generic plan.
        let (statement, custom): (&str, i64) = (row.get(0), row.get(1));
        assert_eq!(custom, 5, "{statement}");
        assert!(row.get::<_, i64>(2) >= 5, "{statement}");
    }
    drop(connection);
    pool.close().await;
    server.stop().await.unwrap();
}

#[test]
fn every_statement_with_a_name_is_counted_under_it() {
    let sources = [
        include_str!("keys/sql.rs"),
        include_str!("users/mod.rs"),
        include_str!("users/listing.rs"),
        include_str!("api_keys/mod.rs"),
        include_str!("cache_epoch.rs"),
    ];
    let names = sources.iter().flat_map(|source| source.split("\"/* ").skip(1));
    let mut names: Vec<_> = names.filter_map(|rest| rest.split(" */ ").next()).collect();
    let mut counted = super::STATEMENTS.to_vec();
    names.sort_unstable();
    counted.sort_unstable();
    assert_eq!(names, counted);
}
