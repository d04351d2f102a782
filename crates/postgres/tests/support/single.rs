//! A pool of one connection, so that the next user gets the same one.

use cenote_postgres::{Connection, Pool};
use tokio::time::timeout;

use super::{SOON, Watcher, database};

/// A pool of one connection, the process of its session, and a second session.
pub async fn one() -> (Pool, u32, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    let pool = database.pool(1);
    let process_id = pool.get().await.unwrap().process_id();
    (pool, process_id, watcher)
}

pub async fn text(connection: &Connection, sql: &str) -> String {
    connection.query_one(sql, &[]).await.unwrap().get(0)
}

/// Checks that the next user is outside a transaction and can write. It may have another connection: one whose cancel is slow on
/// a busy machine is closed.
pub async fn assert_clean(pool: &Pool, watcher: &Watcher) {
    let process_id = timeout(SOON, pool.get()).await.unwrap().unwrap().process_id();
    assert_as_new(pool, process_id, watcher).await;
}

/// Checks that the next user gets the same connection, outside a transaction, and can write.
pub async fn assert_as_new(pool: &Pool, process_id: u32, watcher: &Watcher) {
    let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
    assert_eq!(connection.process_id(), process_id);
    let (state, _) = watcher.activity(process_id).await.unwrap();
    assert_eq!(state, "idle");
    let insert = "INSERT INTO entry VALUES (1000)";
    connection.execute(insert, &[]).await.unwrap();
    let written = "SELECT count(*) FROM entry WHERE id = 1000";
    assert_eq!(watcher.number(written, &[]).await, 1, "it was a transaction");
}
