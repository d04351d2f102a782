//! One statement needs no connection in hand.

use cenote_postgres::{Error, Pool};

use crate::support::database;

#[tokio::test]
async fn a_statement_runs_on_a_connection_of_the_pool_and_leaves_it_idle() {
    let pool = database().await.pool(1);
    pool.execute("CREATE TABLE goods (id int PRIMARY KEY, name text)", &[])
        .await
        .unwrap();
    let add = "INSERT INTO goods SELECT n, 'name ' || n FROM generate_series(1, $1) AS n";
    assert_eq!(pool.execute(add, &[&3]).await.unwrap(), 3);
    let names = pool
        .query("SELECT name FROM goods WHERE id > $1 ORDER BY id", &[&1])
        .await
        .unwrap();
    let names: Vec<&str> = names.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["name 2", "name 3"]);
    let one = pool
        .query_one("SELECT name FROM goods WHERE id = $1", &[&1])
        .await
        .unwrap();
    assert_eq!(one.get::<_, &str>(0), "name 1");
    assert!(
        pool.query_opt("SELECT 1 FROM goods WHERE id = 7", &[])
            .await
            .unwrap()
            .is_none()
    );
    let error = pool.query_one("SELECT 1 FROM goods", &[]).await.unwrap_err();
    assert!(matches!(error, Error::RowCount(3)), "{error:?}");
    let stats = pool.stats().pool;
    assert_eq!((stats.idle, stats.in_use), (1, 0));
}

#[tokio::test]
async fn while_it_runs_the_callers_line_is_shown_as_the_holder() {
    let pool = database().await.pool(1);
    let line = line!() + 1;
    let slow = pool.query("SELECT pg_sleep(60)", &[]);
    let look = async {
        loop {
            let holders = pool.holders();
            if let [holder] = &*holders {
                let shown = holder.to_string();
                assert!(shown.contains(&format!("shortcuts.rs:{line}")), "{shown}");
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = slow => panic!("it lasts a minute"),
        () = look => {}
    }
    // Its drop ended the statement on the server, too.
    pool.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_was_not_executed_is_repeated_on_another_connection() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut config = database.config(1);
    config.retry.delay = std::time::Duration::from_millis(5);
    let pool = Pool::new(config).unwrap();
    let killed = pool.get().await.unwrap().process_id();
    watcher.terminate(killed).await;
    let alive: i32 = pool.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert_ne!(alive as u32, killed);
}

#[tokio::test]
async fn try_get_takes_what_is_idle_and_waits_for_nothing() {
    let mut config = database().await.config(1);
    config.pool.min_size = Some(1);
    let pool = Pool::new(config).unwrap();
    pool.warm_up_within(std::time::Duration::from_secs(10)).await.unwrap();
    let held = pool.try_get().unwrap();
    assert!(pool.try_get().is_none());
    drop(held);
    assert!(pool.try_get().is_some());
}

#[tokio::test]
async fn a_drain_with_a_bound_ends_in_time_and_says_whether_everything_came_back() {
    let pool = database().await.pool(2);
    let held = pool.get().await.unwrap();
    assert!(!pool.drain_within(std::time::Duration::from_millis(50)).await);
    let error = pool.get().await.unwrap_err();
    assert!(error.acquire_error().is_some(), "{error:?}");
    drop(held);
    assert!(pool.drain_within(std::time::Duration::from_secs(10)).await);
    assert!(pool.last_connect_error().is_none());
}
