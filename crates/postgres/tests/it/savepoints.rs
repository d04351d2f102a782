//! A savepoint takes effect completely or not at all, and leaves the transaction around it as it was.

use cenote_postgres::{Error, Isolation, Pool, Transaction, TransactionOptions};

use crate::support::{SOON, Watcher, database, give_up_after};

async fn table() -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    (database.pool(1), watcher)
}

async fn insert(transaction: &Transaction<'_>, id: i32) {
    let insert = "INSERT INTO entry VALUES ($1)";
    transaction.execute(insert, &[&id]).await.unwrap();
}

async fn ids(watcher: &Watcher) -> i64 {
    // A row with the id n sets the digit n of the sum.
    let sum = "SELECT coalesce(sum(10 ^ id), 0)::bigint FROM entry";
    watcher.number(sum, &[]).await
}

#[tokio::test]
async fn the_changes_of_a_committed_savepoint_are_committed_or_rolled_back_with_the_transaction() {
    let (pool, watcher) = table().await;
    for commit in [false, true] {
        let mut transaction = pool.begin().await.unwrap();
        insert(&transaction, 0).await;
        let savepoint = transaction.savepoint().await.unwrap();
        insert(&savepoint, 1).await;
        savepoint.commit().await.unwrap();
        insert(&transaction, 2).await;
        match commit {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
        assert_eq!(ids(&watcher).await, if commit { 111 } else { 0 });
    }
}

#[tokio::test]
async fn a_savepoint_that_is_rolled_back_or_dropped_leaves_the_rest() {
    let (pool, watcher) = table().await;
    let mut transaction = pool.begin().await.unwrap();
    insert(&transaction, 0).await;
    let savepoint = transaction.savepoint().await.unwrap();
    insert(&savepoint, 1).await;
    savepoint.rollback().await.unwrap();
    let savepoint = transaction.savepoint().await.unwrap();
    insert(&savepoint, 2).await;
    drop(savepoint);
    let mut savepoint = transaction.savepoint().await.unwrap();
    insert(&savepoint, 3).await;
    let inner = savepoint.savepoint().await.unwrap();
    insert(&inner, 4).await;
    inner.rollback().await.unwrap();
    insert(&savepoint, 5).await;
    savepoint.commit().await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(ids(&watcher).await, 101_001);
}

#[tokio::test]
async fn a_failed_statement_costs_its_savepoint_only() {
    let (pool, watcher) = table().await;
    let mut transaction = pool.begin().await.unwrap();
    insert(&transaction, 0).await;
    for end in ["drop", "rollback", "commit"] {
        let savepoint = transaction.savepoint().await.unwrap();
        insert(&savepoint, 1).await;
        savepoint.query("SELECT 1 / 0", &[]).await.unwrap_err();
        match end {
            "drop" => drop(savepoint),
            "rollback" => savepoint.rollback().await.unwrap(),
            _ => {
                let error = savepoint.commit().await.unwrap_err();
                assert!(matches!(error, Error::RolledBack), "{error:?}");
            }
        }
    }
    insert(&transaction, 2).await;
    transaction.commit().await.unwrap();
    assert_eq!(ids(&watcher).await, 101);
}

#[tokio::test]
async fn a_savepoint_dropped_at_any_await_leaves_the_rest() {
    let (pool, watcher) = table().await;
    for polls in 1.. {
        watcher.run("TRUNCATE entry").await;
        let mut transaction = pool.begin().await.unwrap();
        insert(&transaction, 0).await;
        let set = give_up_after(polls, transaction.savepoint()).await;
        let finished = set.is_some();
        drop(set);
        insert(&transaction, 1).await;
        transaction.commit().await.unwrap();
        assert_eq!(ids(&watcher).await, 11, "dropped after {polls} polls");
        if finished {
            assert!(polls > 1, "never dropped half-way");
            break;
        }
    }
}

#[tokio::test]
async fn a_release_dropped_at_any_await_leaves_the_rest() {
    let (pool, watcher) = table().await;
    for polls in 0.. {
        watcher.run("TRUNCATE entry").await;
        let mut transaction = pool.begin().await.unwrap();
        insert(&transaction, 0).await;
        let savepoint = transaction.savepoint().await.unwrap();
        insert(&savepoint, 1).await;
        let released = give_up_after(polls, savepoint.commit()).await;
        let ended = transaction.commit().await;
        match (released, ended) {
            (Some(released), ended) => {
                released.unwrap();
                ended.unwrap();
                assert_eq!(ids(&watcher).await, 11);
                break;
            }
            // The savepoint was released, so rolling back to it fails.
            (None, Err(error)) => {
                assert!(matches!(error, Error::RolledBack), "{error:?}");
                assert_eq!(ids(&watcher).await, 0);
            }
            (None, Ok(())) => assert_eq!(ids(&watcher).await, 1),
        }
    }
}

#[tokio::test]
async fn a_transaction_is_what_its_options_say() {
    let (pool, _watcher) = table().await;
    let shown = "SELECT current_setting('transaction_isolation'), \
                 current_setting('transaction_read_only'), \
                 current_setting('transaction_deferrable')";
    for (isolation, name) in [
        (None, "read committed"),
        (Some(Isolation::ReadCommitted), "read committed"),
        (Some(Isolation::RepeatableRead), "repeatable read"),
        (Some(Isolation::Serializable), "serializable"),
    ] {
        for (read_only, deferrable) in [(false, false), (true, false), (true, true)] {
            let options = TransactionOptions {
                isolation,
                read_only,
                deferrable,
            };
            let transaction = pool.begin_with(options).await.unwrap();
            let row = transaction.query_one(shown, &[]).await.unwrap();
            let on = |on| if on { "on" } else { "off" };
            let found: (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(found, (name, on(read_only), on(deferrable)));
            let write = transaction.execute("INSERT INTO entry VALUES (1)", &[]);
            assert_eq!(write.await.is_err(), read_only);
        }
    }
}

#[tokio::test]
async fn the_end_of_an_owned_transaction_gives_its_connection_back_clean() {
    let (pool, watcher) = table().await;
    let transaction = pool.begin().await.unwrap();
    let process_id = transaction.process_id();
    insert(&transaction, 0).await;
    drop(transaction);
    let transaction = tokio::time::timeout(SOON, pool.begin()).await.unwrap();
    let transaction = transaction.unwrap();
    assert_eq!(transaction.process_id(), process_id);
    insert(&transaction, 1).await;
    transaction.commit().await.unwrap();
    assert_eq!(ids(&watcher).await, 10);
}
