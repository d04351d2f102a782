//! Work in a transaction is repeated as a whole if it lost against another transaction, and only then.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cenote_postgres::{Error, Isolation, Pool, Retry, TransactionOptions};
use tokio::sync::Barrier;

use crate::support::{Watcher, database, until};

async fn accounts(attempts: u32) -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run(
            "CREATE TABLE account (id int PRIMARY KEY, sum int);
             INSERT INTO account VALUES (1, 100), (2, 100)",
        )
        .await;
    let mut config = database.config(4);
    let delay = Duration::from_millis(5);
    config.retry = Retry { attempts, delay };
    (Pool::new(config).unwrap(), watcher)
}

const ADD: &str = "UPDATE account SET sum = sum + $2 WHERE id = $1";
const SUM: &str = "SELECT sum::bigint FROM account WHERE id = $1";

#[tokio::test]
async fn work_that_succeeds_is_committed_and_work_that_fails_is_not() {
    let (pool, watcher) = accounts(3).await;
    let returned = pool
        .transaction(|transaction| {
            Box::pin(async move {
                transaction.execute(ADD, &[&1, &-10]).await?;
                transaction.execute(ADD, &[&2, &10]).await
            })
        })
        .await;
    assert_eq!(returned.unwrap(), 1);
    assert_eq!(watcher.number(SUM, &[&1]).await, 90);
    let tries = AtomicU32::new(0);
    let error = pool
        .transaction(|transaction| {
            let tries = &tries;
            Box::pin(async move {
                tries.fetch_add(1, Relaxed);
                transaction.execute(ADD, &[&1, &-10]).await?;
                transaction.query("SELECT 1 / 0", &[]).await
            })
        })
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    assert_eq!(tries.into_inner(), 1);
    assert_eq!(watcher.number(SUM, &[&1]).await, 90);
}

/// Each of two transactions locks one row and then wants the other's. The work borrows from its spawned task.
#[tokio::test]
async fn a_deadlock_is_repeated_until_both_are_done() {
    let (pool, watcher) = accounts(5).await;
    let barrier = std::sync::Arc::new(Barrier::new(2));
    let tasks = [(1, 2), (2, 1)].map(|(first, second)| {
        let (pool, barrier) = (pool.clone(), barrier.clone());
        tokio::spawn(async move {
            let tries = AtomicU32::new(0);
            let (tries, barrier) = (&tries, &*barrier);
            let add = String::from(ADD);
            let add = add.as_str();
            pool.transaction(|transaction| {
                Box::pin(async move {
                    let again = tries.fetch_add(1, Relaxed) > 0;
                    transaction.execute(add, &[&first, &1]).await?;
                    if !again {
                        barrier.wait().await;
                    }
                    transaction.execute(add, &[&second, &1]).await
                })
            })
            .await?;
            Ok::<_, Error>(tries.load(Relaxed))
        })
    });
    let mut tries = 0;
    for task in tasks {
        tries += task.await.unwrap().unwrap();
    }
    assert_eq!(tries, 3);
    assert_eq!(watcher.number(SUM, &[&1]).await, 102);
    assert_eq!(watcher.number(SUM, &[&2]).await, 102);
}

#[tokio::test]
async fn a_serialization_failure_at_the_commit_is_repeated_and_tries_are_bounded() {
    for (attempts, passes) in [(3, true), (1, false)] {
        let (pool, watcher) = accounts(attempts).await;
        let tries = AtomicU32::new(0);
        let options = TransactionOptions {
            isolation: Some(Isolation::Serializable),
            ..TransactionOptions::default()
        };
        let other = pool.begin_with(options).await.unwrap();
        let other = std::sync::Mutex::new(Some(other));
        let result = pool
            .transaction_with(options, |transaction| {
                let (tries, other) = (&tries, &other);
                Box::pin(async move {
                    tries.fetch_add(1, Relaxed);
                    let rival = other.lock().unwrap().take();
                    // Each reads what the other writes, so no order of the two explains both.
                    transaction.query_one(SUM, &[&1]).await?;
                    if let Some(rival) = rival {
                        rival.query_one(SUM, &[&2]).await?;
                        rival.execute(ADD, &[&1, &1]).await?;
                        transaction.execute(ADD, &[&2, &1]).await?;
                        rival.commit().await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await;
        match passes {
            true => result.unwrap(),
            false => {
                let error = result.unwrap_err();
                assert_eq!(error.code().unwrap().code(), "40001");
                assert!(!error.is_outcome_unknown());
            }
        }
        assert_eq!(tries.into_inner(), if passes { 2 } else { 1 });
        assert_eq!(watcher.number(SUM, &[&1]).await, 101);
    }
}

#[tokio::test]
async fn a_commit_whose_outcome_is_unknown_is_not_repeated() {
    let (pool, watcher) = accounts(3).await;
    watcher
        .run(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON account
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let tries = AtomicU32::new(0);
    let process_id = AtomicU32::new(0);
    let work = pool.transaction(|transaction| {
        let (tries, process_id) = (&tries, &process_id);
        Box::pin(async move {
            tries.fetch_add(1, Relaxed);
            process_id.store(transaction.process_id(), Relaxed);
            transaction.execute(ADD, &[&1, &1]).await
        })
    });
    let kill = async {
        until("the work has begun", async || process_id.load(Relaxed) != 0).await;
        let process_id = process_id.load(Relaxed);
        watcher.sees_running(process_id, "COMMIT").await;
        watcher.terminate(process_id).await;
    };
    let (result, ()) = tokio::join!(work, kill);
    let error = result.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(tries.load(Relaxed), 1);
}
