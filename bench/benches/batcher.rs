//! The cost of a request in a batch: `cargo bench -p cenote-bench --bench batcher`.
//!
//! All on one thread, like a core of the service, over a private PostgreSQL. `nothing` sends no statement, so it
//! measures the queue, the worker and the pool alone. Times are per request.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use cenote_local::PostgresServer;
use cenote_postgres::{
    Batch, BatchCalls, BatchLimits, Batcher, Combine, Combiner, Config, Connection, Error, ExtraBatches, Loader, Pool,
    Pooled, Result, Rows, Weight,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// Answers without sending a statement.
struct Nothing;

impl Batch for Nothing {
    type Request = i64;
    type Response = i64;

    fn weight(&self, _: &i64) -> Weight {
        Weight { rows: 1, bytes: 8 }
    }

    fn key(&self, _: &i64) -> Option<u64> {
        None
    }

    async fn run(&self, _connection: Pooled<'_>, calls: &BatchCalls<Self>) {
        calls.answer_all(|index| Ok(calls.requests()[index]));
    }
}

const READ: &str = "SELECT wanted.position, item.value \
    FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) JOIN item USING (id) \
    WHERE wanted.position BETWEEN 1 AND 1000000";
const WRITE: &str = "INSERT INTO item SELECT * FROM unnest($1::bigint[], $2::bigint[]) \
    ON CONFLICT (id) DO UPDATE SET value = excluded.value";

/// Writes the last value of each item.
struct Items;

impl Combine for Items {
    type Key = i64;
    type Write = (i64, i64);
    type Outcome = ();
    type Error = Error;

    fn key<'a>(&self, write: &'a (i64, i64)) -> &'a i64 {
        &write.0
    }

    fn bytes(&self, _: &(i64, i64)) -> usize {
        16
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, _: &[&(i64, i64)], _: &(i64, i64)) -> bool {
        true
    }

    async fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, (i64, i64)>,
        _lock_timeout: Duration,
    ) -> Result<Vec<()>> {
        let ids: Vec<i64> = rows.iter().map(|row| row[0].0).collect();
        let values: Vec<i64> = rows.iter().map(|row| row[row.len() - 1].1).collect();
        connection.execute(WRITE, &[&ids, &values]).await?;
        Ok(rows.iter().flatten().map(|_| ()).collect())
    }
}

const ITEMS: i64 = 10_000;

/// The time per request, for `requests` requests by `callers` callers at once.
async fn crowd<F>(callers: u64, requests: u64, ask: impl Fn(i64) -> F + Clone + Send + 'static) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let each = requests.div_ceil(callers);
    let started = Instant::now();
    let mut crowd = JoinSet::new();
    for caller in 0..callers {
        let ask = ask.clone();
        crowd.spawn(async move {
            for n in 0..each {
                ask((caller * 7919 + n * 104_729).cast_signed() % ITEMS).await;
            }
        });
    }
    crowd.join_all().await;
    let all = u32::try_from(each * callers).unwrap_or(u32::MAX);
    started.elapsed() / all * u32::try_from(requests).unwrap_or(u32::MAX)
}

fn measure<F>(criterion: &mut Criterion, runtime: &Runtime, name: &str, ask: impl Fn(i64) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    for (group, callers) in [("alone", 1), ("64 callers", 64)] {
        criterion.benchmark_group(group).bench_function(name, |bencher| {
            bencher
                .to_async(runtime)
                .iter_custom(|requests| crowd(callers, requests, ask.clone()));
        });
    }
}

fn must<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

async fn database() -> (PostgresServer, Pool) {
    let server = must(PostgresServer::temporary().start().await);
    let mut config = must(Config::from_url(&server.url()));
    config.pool.min_size = Some(4);
    config.pool.max_size = 10;
    let pool = must(Pool::new(config));
    let connection = must(pool.get().await);
    let fill = format!(
        "CREATE TABLE item (id bigint PRIMARY KEY, value bigint); \
         INSERT INTO item SELECT id, id FROM generate_series(0, {ITEMS}) AS id; ANALYZE item"
    );
    must(connection.batch_execute(&fill).await);
    drop(connection);
    (server, pool)
}

fn batchers(criterion: &mut Criterion) {
    let runtime = must(Builder::new_current_thread().enable_all().build());
    let (server, pool) = runtime.block_on(database());
    let limits = || BatchLimits {
        workers: 1,
        extra: ExtraBatches::new(0),
        ..BatchLimits::of(&pool)
    };

    let nothing = Batcher::with_limits(Nothing, &pool, limits());
    measure(criterion, &runtime, "nothing", move |key| {
        let nothing = nothing.clone();
        async move { assert_eq!(must(nothing.submit(key).await), key) }
    });
    let read = |row: cenote_postgres::tokio_postgres::Row| -> cenote_postgres::Decoded<i64> { Ok(row.try_get(1)?) };
    let loader = Loader::with_limits(pool.clone(), READ, read, |_: &i64| 8, limits());
    measure(criterion, &runtime, "look-up", move |key| {
        let loader = loader.clone();
        async move { assert!(must(loader.load(key).await).is_some()) }
    });
    let combiner = Combiner::with_limits(Items, &pool, limits());
    measure(criterion, &runtime, "write", move |key| {
        let combiner = combiner.clone();
        async move { must(combiner.submit((key, key)).await) }
    });

    runtime.block_on(pool.close());
    must(runtime.block_on(server.stop()));
}

criterion_group!(benches, batchers);
criterion_main!(benches);
