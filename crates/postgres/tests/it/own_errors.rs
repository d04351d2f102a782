//! Applications have error types of their own, which the pool carries.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cenote_postgres::{Error, Pool, Retry};

use crate::support::{Watcher, database};

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("only {0} are left")]
    SoldOut(i64),
    #[error(transparent)]
    Database(#[from] Error),
}

async fn shop() -> (Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher
        .run("CREATE TABLE stock (id int PRIMARY KEY, pieces bigint); INSERT INTO stock VALUES (1, 3)")
        .await;
    let mut config = database.config(4);
    let delay = Duration::from_millis(5);
    config.retry = Retry { attempts: 4, delay };
    (Pool::new(config).unwrap(), watcher)
}

const TAKE: &str = "UPDATE stock SET pieces = pieces - $2 WHERE id = $1 RETURNING pieces";
const PIECES: &str = "SELECT pieces FROM stock WHERE id = $1";

async fn take(pool: &Pool, pieces: i64, tries: &AtomicU32) -> Result<i64, ShopError> {
    pool.transaction(|transaction| {
        Box::pin(async move {
            tries.fetch_add(1, Relaxed);
            let row = transaction.query_one(TAKE, &[&1, &pieces]).await?;
            // The driver's own error becomes one of the pool.
            match row.try_get(0).map_err(Error::from)? {
                left if left < 0 => Err(ShopError::SoldOut(left + pieces)),
                left => Ok(left),
            }
        })
    })
    .await
}

#[tokio::test]
async fn an_error_of_the_application_rolls_back_and_is_not_repeated() {
    let (pool, watcher) = shop().await;
    let tries = AtomicU32::new(0);
    assert_eq!(take(&pool, 2, &tries).await.unwrap(), 1);
    let error = take(&pool, 2, &tries).await.unwrap_err();
    assert!(matches!(error, ShopError::SoldOut(1)), "{error:?}");
    assert_eq!(tries.into_inner(), 2);
    assert_eq!(watcher.number(PIECES, &[&1]).await, 1);
}

#[tokio::test]
async fn a_failure_that_passes_is_repeated_whatever_error_the_application_makes_of_it() {
    let (pool, watcher) = shop().await;
    watcher
        .run(
            "CREATE SEQUENCE calls;
             CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('calls') < 3 THEN
                     RAISE EXCEPTION 'lost against another' USING ERRCODE = '40001';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER conflict BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION conflict()",
        )
        .await;
    // Two conflicts, then success.
    let tries = AtomicU32::new(0);
    assert_eq!(take(&pool, 1, &tries).await.unwrap(), 2);
    assert_eq!(tries.into_inner(), 3);
    watcher.run("SELECT setval('calls', 1)").await;
    let tries = AtomicU32::new(0);
    let tried = pool.retry(|| async {
        tries.fetch_add(1, Relaxed);
        let connection = pool.get().await.map_err(|error| error.to_string())?;
        let taken = connection.query_one(TAKE, &[&1, &1_i64]).await;
        taken.map_err(|error| error.to_string())
    });
    assert_eq!(tried.await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(tries.into_inner(), 2);
    assert_eq!(watcher.number(PIECES, &[&1]).await, 1);
}

#[tokio::test]
async fn work_that_survived_a_failure_and_then_fails_by_itself_is_not_repeated() {
    let (pool, watcher) = shop().await;
    watcher
        .run(
            "CREATE FUNCTION conflict() RETURNS int LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$",
        )
        .await;
    let tries = AtomicU32::new(0);
    let ended: Result<(), ShopError> = pool
        .transaction(|transaction| {
            let tries = &tries;
            Box::pin(async move {
                tries.fetch_add(1, Relaxed);
                let savepoint = transaction.savepoint().await?;
                savepoint.query("SELECT conflict()", &[]).await.unwrap_err();
                savepoint.rollback().await?;
                Err(ShopError::SoldOut(0))
            })
        })
        .await;
    assert!(matches!(ended, Err(ShopError::SoldOut(0))));
    assert_eq!(tries.into_inner(), 1);
}

#[tokio::test]
async fn errors_of_the_driver_become_errors_of_the_pool() {
    let (pool, _watcher) = shop().await;
    let connection = pool.get().await.unwrap();
    let row = connection.query_one("SELECT 'text' AS word", &[]).await.unwrap();
    let error = Error::from(row.try_get::<_, i32>("word").unwrap_err());
    assert!(matches!(error, Error::Decode(_)), "{error:?}");
    let error = Error::from(row.try_get::<_, &str>("nothing").unwrap_err());
    assert!(matches!(error, Error::Decode(_)), "{error:?}");
    let error = Error::from(connection.client().query("SELECT 1 / 0", &[]).await.unwrap_err());
    assert_eq!(error.code().unwrap().code(), "22012");
    let error = connection
        .client()
        .query("SELECT $1::int", &[&"text"])
        .await
        .unwrap_err();
    assert!(matches!(Error::from(error), Error::NotSent(_)));
}
