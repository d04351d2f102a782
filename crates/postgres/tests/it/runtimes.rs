//! Callers are served, or get an error in time, whatever happens to the runtime on which a pool, loader, combiner or
//! listener was made.

use std::time::{Duration, Instant};

use cenote_postgres::{Combine, Combiner, Connection, Error, Event, Listener, Loader, Pool, Result, Rows};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::support::{Database, SOON, database};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What happens to the runtime on which everything was made.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The runtime ends.
    Ends,
    /// It lives, but is not run.
    Stands,
}

const FATES: [Fate; 2] = [Fate::Ends, Fate::Stands];

/// Makes something on a runtime, and returns it with the runtime if that lives.
fn made<T>(fate: Fate, make: impl AsyncFnOnce() -> T) -> (T, Option<Runtime>) {
    let home = runtime();
    let made = home.block_on(make());
    match fate {
        Fate::Ends => (made, None),
        Fate::Stands => (made, Some(home)),
    }
}

/// A database, and a runtime that outlives the others of the test: the connection to its server lives on it.
struct World {
    database: Database,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let database = runtime.block_on(database());
        Self { database, runtime }
    }
}

/// A command that is tried again if its connection ended with its runtime.
async fn ask(pool: &Pool) -> i32 {
    let one = pool
        .retry_idempotent(|| async { pool.get().await?.query_one("SELECT 7", &[]).await })
        .await;
    one.unwrap().get(0)
}

#[test]
fn a_pool_serves_callers_on_other_runtimes_whatever_happened_to_its_own() {
    let world = World::new();
    for (fate, used) in FATES.into_iter().flat_map(|fate| [(fate, false), (fate, true)]) {
        let (pool, home) = made(fate, async || {
            let mut config = world.database.config(1);
            config.command_timeout = Some(Duration::from_millis(500));
            let pool = Pool::new(config).unwrap();
            if used {
                ask(&pool).await;
            }
            pool
        });
        let started = Instant::now();
        runtime().block_on(async {
            // The first command may get a connection whose runtime is not run: it ends at its timeout.
            let first = pool.get().await.unwrap().query_one("SELECT 1", &[]).await;
            match (fate, used) {
                (Fate::Stands, true) => assert!(matches!(first, Err(Error::Timeout(_)))),
                _ => drop(first.unwrap()),
            }
            for _ in 0..3 {
                assert_eq!(ask(&pool).await, 7, "{fate:?}");
            }
            pool.close().await;
        });
        assert!(started.elapsed() < SOON, "{fate:?}, {used}: {:?}", started.elapsed());
        drop(home);
    }
    drop(world.runtime);
}

#[test]
fn a_command_on_a_connection_of_a_runtime_that_is_not_run_ends_at_its_timeout() {
    let world = World::new();
    let limit = Duration::from_millis(300);
    let (connection, home) = made(Fate::Stands, async || {
        let mut config = world.database.config(1);
        config.command_timeout = Some(limit);
        Pool::new(config).unwrap().get_owned().await.unwrap()
    });
    let started = Instant::now();
    let answer = runtime().block_on(connection.query("SELECT 1", &[]));
    assert!(matches!(answer, Err(Error::Timeout(_))), "{answer:?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    drop((connection, home));
    let (connection, _) = made(Fate::Ends, async || world.database.pool(1).get_owned().await.unwrap());
    let answer = runtime().block_on(connection.query("SELECT 1", &[]));
    assert!(matches!(answer, Err(Error::Disconnected { .. })), "{answer:?}");
}

const SQUARES: &str = "SELECT position, key * key FROM unnest($1::bigint[]) \
                       WITH ORDINALITY AS wanted (key, position)";

#[test]
fn a_loader_serves_callers_on_other_runtimes_whatever_happened_to_its_own() {
    let world = World::new();
    for fate in FATES {
        let (loader, home) = made(fate, async || {
            let pool = world.database.pool(2);
            let read = |row: cenote_postgres::tokio_postgres::Row| Ok(row.try_get(1)?);
            let loader: Loader<i64, i64> = Loader::new(pool, SQUARES, read);
            assert_eq!(loader.load(3).await.unwrap(), Some(9));
            loader
        });
        for _ in 0..3 {
            runtime().block_on(async {
                let found = timeout(SOON, loader.load(4)).await.unwrap();
                // The command that gets a connection of a runtime that is not run fails, and the connection is closed.
                match (fate, found) {
                    (_, Ok(found)) => assert_eq!(found, Some(16)),
                    (Fate::Stands, Err(error)) => {
                        assert!(matches!(error, Error::Timeout(_) | Error::Lost { .. }), "{error}");
                    }
                    (Fate::Ends, Err(error)) => panic!("{error}"),
                }
            });
        }
        runtime().block_on(async { assert_eq!(loader.load(5).await.unwrap(), Some(25)) });
        drop(home);
    }
    drop(world.runtime);
}

/// Inserts each name.
struct Count;

impl Combine for Count {
    type Key = str;
    type Write = String;
    type Outcome = ();
    type Error = Error;

    fn key<'a>(&self, name: &'a String) -> &'a str {
        name
    }

    fn bytes(&self, name: &String) -> usize {
        name.len()
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, _: &[&String], _: &String) -> bool {
        true
    }

    async fn commit(&self, connection: &Connection, rows: &Rows<'_, String>, _: Duration) -> Result<Vec<()>> {
        let names: Vec<&str> = rows.iter().flatten().map(|name| name.as_str()).collect();
        let insert = "INSERT INTO counted SELECT * FROM unnest($1::text[])";
        connection.execute(insert, &[&names]).await?;
        Ok(vec![(); names.len()])
    }
}

#[test]
fn a_combiner_serves_callers_on_other_runtimes_and_never_reports_a_lost_write_as_unsent() {
    let world = World::new();
    for fate in FATES {
        let (combiner, home) = made(fate, async || {
            let mut config = world.database.config(2);
            config.command_timeout = Some(Duration::from_millis(500));
            let pool = Pool::new(config).unwrap();
            let connection = pool.get().await.unwrap();
            let table = "DROP TABLE IF EXISTS counted; CREATE TABLE counted (name text)";
            connection.batch_execute(table).await.unwrap();
            drop(connection);
            let combiner = Combiner::new(Count, &pool);
            combiner.submit("first".to_owned()).await.unwrap();
            combiner
        });
        let mut written = 1;
        for _ in 0..6 {
            let answer = runtime().block_on(combiner.submit("more".to_owned()));
            match answer {
                Ok(()) => written += 1,
                Err(error) => {
                    assert!(matches!(fate, Fate::Stands), "{error}");
                    assert!(error.is_outcome_unknown(), "{error}");
                }
            }
        }
        assert!(written >= 3, "{fate:?}: {written}");
        let counted = world.runtime.block_on(async {
            let watcher = world.database.watcher().await;
            watcher.rows_of("counted").await
        });
        assert!(counted >= written, "{counted} of {written}");
        drop(home);
    }
}

#[test]
fn a_write_queued_behind_a_batch_on_a_runtime_that_is_not_run_is_made_nevertheless() {
    let world = World::new();
    let home = runtime();
    let (pool, combiner) = home.block_on(async {
        let mut config = world.database.config(2);
        config.command_timeout = Some(Duration::from_millis(500));
        let pool = Pool::new(config).unwrap();
        let table = "CREATE TABLE counted (name text)";
        pool.get().await.unwrap().batch_execute(table).await.unwrap();
        let combiner = Combiner::new(Count, &pool);
        (pool, combiner)
    });
    // The batch is sent, and its runtime is not run again.
    home.block_on(async {
        let combiner = combiner.clone();
        tokio::spawn(async move { combiner.submit("same".to_owned()).await });
        while pool.stats().queries < 2 {
            tokio::task::yield_now().await;
        }
    });
    runtime().block_on(async {
        let waited = timeout(SOON, combiner.submit("same".to_owned())).await;
        if let Err(error) = waited.unwrap() {
            // It may have got the idle connection of that runtime.
            assert!(error.is_outcome_unknown(), "{error}");
        }
        combiner.submit("same".to_owned()).await.unwrap();
    });
    drop(home);
}

#[test]
fn a_listener_goes_on_on_the_runtime_of_its_caller() {
    let world = World::new();
    for fate in FATES {
        let (mut listener, home) = made(fate, async || {
            let listener = Listener::connect(&world.database.config(1)).await.unwrap();
            listener.listen("news").await.unwrap();
            listener
        });
        let here = runtime();
        let next = here.block_on(async { timeout(SOON, listener.recv()).await });
        assert_eq!(next.unwrap(), Event::Gap, "{fate:?}");
        world.runtime.block_on(async {
            let watcher = world.database.watcher().await;
            watcher.run("NOTIFY news, 'hello'").await;
        });
        let next = here.block_on(async { timeout(SOON, listener.recv()).await });
        let Event::Notification { payload, .. } = next.unwrap() else {
            panic!("a gap")
        };
        assert_eq!(payload, "hello");
        here.block_on(async {
            let listening = timeout(SOON, listener.listen("more")).await;
            listening.unwrap().unwrap();
        });
        drop((listener, home));
    }
}

/// As the tests of a program do that share a pool.
#[test]
fn a_pool_serves_many_short_lived_runtimes_one_after_the_other_and_at_once() {
    let world = World::new();
    let pool = runtime().block_on(async { world.database.pool(3) });
    for _ in 0..20 {
        assert_eq!(runtime().block_on(ask(&pool)), 7);
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(runtime().block_on(ask(&pool)), 7);
                }
            });
        }
    });
    runtime().block_on(async {
        let all = [pool.get().await, pool.get().await, pool.get().await];
        assert!(all.iter().all(std::result::Result::is_ok), "no connection is lost");
        drop(all);
        pool.close().await;
    });
}
