//! A caller who gives up at any moment costs the others nothing: no connection is lost, none is left in a transaction,
//! none answers with the rows of another.

use std::time::Duration;

use cenote_postgres::{Error, Pool, Result};
use tokio::time::timeout;

use crate::support::{SOON, Watcher, database, give_up_after, rounds, until_ok};

const SIZE: u32 = 4;

/// One use of a pool, with answers that no other use gets.
async fn use_once(pool: &Pool, kind: u32, token: i32) -> Result<()> {
    let mut connection = pool.get().await?;
    let ask = "SELECT $1::int";
    match kind % 6 {
        0 => {
            let row = connection.query_one(ask, &[&token]).await?;
            assert_eq!(row.get::<_, i32>(0), token);
        }
        1 => {
            let text = format!("SELECT {token} AS fresh");
            let row = connection.query_one(&text, &[]).await?;
            assert_eq!(row.get::<_, i32>(0), token);
        }
        2 => {
            let sql = "SELECT $1::int FROM pg_sleep(0.003)";
            let row = connection.query_one(sql, &[&token]).await?;
            assert_eq!(row.get::<_, i32>(0), token);
        }
        3 => {
            let transaction = connection.transaction().await?;
            let insert = "INSERT INTO entry SELECT $1 FROM generate_series(1, 2)";
            transaction.execute(insert, &[&token]).await?;
            let row = transaction.query_one(ask, &[&token]).await?;
            assert_eq!(row.get::<_, i32>(0), token);
            transaction.commit().await?;
        }
        4 => {
            let transaction = connection.transaction().await?;
            transaction.batch_execute("SELECT 1 / 0").await.unwrap_err();
            assert!(matches!(transaction.commit().await, Err(Error::RolledBack)));
        }
        _ => {
            connection
                .batch_execute("BEGIN; SET LOCAL work_mem = '9MB'; SAVEPOINT here")
                .await?;
            let rows = "SELECT $1::int FROM generate_series(1, 500)";
            let rows = connection.query(rows, &[&token]).await?;
            assert!(rows.iter().all(|row| row.get::<_, i32>(0) == token));
        }
    }
    Ok(())
}

/// Waits until all connections of the pool are idle.
async fn settled(pool: &Pool) {
    until_ok("all connections are idle", async || {
        let stats = pool.stats().pool;
        let busy = stats.cleaning + stats.closing + stats.connecting + stats.in_use;
        if busy == 0 { Ok(()) } else { Err(stats) }
    })
    .await;
}

/// The pool and the server agree, and every connection works.
async fn assert_sound(pool: &Pool, watcher: &Watcher) {
    settled(pool).await;
    let stats = pool.stats().pool;
    assert_eq!((stats.waiting, stats.in_use), (0, 0), "{stats:?}");
    assert!(stats.idle <= SIZE, "{stats:?}");
    assert_eq!(watcher.sessions("%").await, i64::from(stats.idle));
    assert_eq!(watcher.sessions("idle").await, i64::from(stats.idle));
    let odd = "SELECT count(*) FROM (SELECT 1 FROM entry GROUP BY token HAVING count(*) <> 2) t";
    assert_eq!(watcher.number(odd, &[]).await, 0, "half a transaction");

    let mut all = Vec::new();
    for token in 0..SIZE.cast_signed() {
        let connection = pool.get().await.unwrap();
        let row = connection.query_one("SELECT $1::int", &[&token]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), token);
        all.push(connection);
    }
    assert!(pool.get_within(Duration::from_millis(20)).await.is_err());
}

async fn pool_and_watcher() -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (token int)").await;
    (database.pool(SIZE), watcher)
}

#[tokio::test]
async fn a_use_given_up_at_each_of_its_awaits_leaves_nothing_behind() {
    let (pool, watcher) = pool_and_watcher().await;
    for kind in 0..6 {
        for polls in 1.. {
            let token = fastrand::i32(..);
            let result = give_up_after(polls, use_once(&pool, kind, token)).await;
            settled(&pool).await;
            let open = watcher.sessions("%transaction%").await;
            assert_eq!(open, 0, "kind {kind} given up after {polls} polls");
            if let Some(result) = result {
                result.unwrap();
                assert!(polls > 1);
                break;
            }
        }
    }
    assert_sound(&pool, &watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_callers_giving_up_at_random_leave_four_sound_connections() {
    let (pool, watcher) = pool_and_watcher().await;
    let each = rounds("CENOTE_CANCELLATIONS", 3200) / 16;
    let mut tasks = Vec::new();
    for task in 0..16u64 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(task);
            let mut completed = 0u32;
            for _ in 0..each {
                let once = use_once(&pool, random.u32(..), random.i32(..));
                let result = if random.bool() {
                    give_up_after(random.u32(0..14), once).await
                } else {
                    let patience = Duration::from_micros(random.u64(0..12_000));
                    timeout(patience, once).await.ok()
                };
                if let Some(result) = result {
                    result.expect("what others do does not reach this caller");
                    completed += 1;
                }
            }
            completed
        }));
    }
    let mut completed = 0;
    for task in tasks {
        completed += timeout(5 * SOON, task).await.unwrap().unwrap();
    }
    let all = each * 16;
    assert!(completed > all / 20 && completed < all, "{completed} of {all}");
    assert_sound(&pool, &watcher).await;
}
