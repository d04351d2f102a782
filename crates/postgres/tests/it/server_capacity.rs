//! The library can tell whether all connections of all instances fit, before the server refuses one.

use cenote_postgres::{Capacity, Pool};

use crate::support::{self, Database, database_on};

async fn database() -> Database {
    // A server of its own, because the tests change roles and count its connections.
    let server = Box::leak(Box::new(support::server().await));
    database_on(server).await
}

#[tokio::test]
async fn connections_reserved_for_administrators_are_not_counted() {
    let database = database().await;
    let mut config = database.config(10);
    config.pool.max_overflow = 5;
    let pool = Pool::new(config).unwrap();
    // The server has 100 connections, three of them reserved.
    for (instances, fits) in [(1, true), (6, true), (7, false), (u32::MAX, false)] {
        let capacity = pool.check_capacity(instances, 0).await.unwrap();
        let expected = Capacity {
            wanted: u64::from(instances) * 15,
            server: 97,
            database: None,
            role: None,
        };
        assert_eq!(capacity, expected);
        assert_eq!(capacity.fits(), fits, "{instances} instances");
        assert!(capacity.limit().contains("max_connections"));
    }
    // Connections that each instance opens beside its pool count too.
    for (beside, fits) in [(1, true), (2, false)] {
        let capacity = pool.check_capacity(6, beside).await.unwrap();
        assert_eq!(capacity.wanted, 6 * (15 + u64::from(beside)));
        assert_eq!(capacity.fits(), fits, "{beside} beside");
    }
}

#[tokio::test]
async fn limits_of_the_role_and_the_database_hold_for_ordinary_users() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run("CREATE ROLE clerk LOGIN PASSWORD 'clerk' CONNECTION LIMIT 30")
        .await;
    let mut config = database.config(10);
    let name = config.server.get_dbname().unwrap().to_owned();
    // This limit does not hold for a superuser.
    watcher.run(&format!("ALTER DATABASE {name} CONNECTION LIMIT 40")).await;
    let pool = Pool::new(config.clone()).unwrap();
    let capacity = pool.check_capacity(5, 0).await.unwrap();
    assert_eq!((capacity.database, capacity.role), (None, None));
    assert!(capacity.fits());

    config.server.user("clerk").password("clerk");
    let pool = Pool::new(config).unwrap();
    let capacity = pool.check_capacity(4, 0).await.unwrap();
    assert_eq!((capacity.database, capacity.role), (Some(40), Some(30)));
    assert_eq!((capacity.wanted, capacity.available()), (40, 30));
    assert!(!capacity.fits());
    assert!(capacity.limit().contains("role"));
    watcher.run("ALTER ROLE clerk CONNECTION LIMIT -1").await;
    let capacity = pool.check_capacity(4, 0).await.unwrap();
    assert_eq!((capacity.available(), capacity.role), (40, None));
    assert!(capacity.fits());
    assert!(capacity.limit().contains("database"));
}
