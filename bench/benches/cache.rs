//! The cost of a cache hit: in the process, as bytes and as a row of a cached table, and in Redis for 64 concurrent readers on
//! one thread.
//!
//! ```text
//! cargo bench -p cenote-bench --bench cache
//! ```

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark; criterion makes the main function"
)]

use std::{convert::Infallible, hint::black_box, time::Duration};

use bytes::Bytes;
use cenote_cache::{Cache, Config, EpochRow, Mode, Origin, RedisConfig, State, Trust, Value};
use cenote_cached::{Cached, Database as CachedDatabase, Load, Table, Versioned};
use cenote_testing::RedisServer;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const READERS: u64 = 64;
const KEYS: u64 = 1_000;

/// An origin that has every key and trusts every epoch.
#[derive(Clone)]
struct Database(std::sync::Arc<std::sync::Mutex<EpochRow>>);

impl Origin for Database {
    type Error = Infallible;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Infallible> {
        let value = |_| {
            let bytes = Bytes::from_static(&[b'v'; 100]);
            Some(Value::new(1, bytes))
        };
        Ok(keys.iter().map(value).collect())
    }

    async fn epoch_row(&self) -> Result<EpochRow, Infallible> {
        Ok(*self.0.lock().unwrap())
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), Infallible> {
        *self.0.lock().unwrap() = successor;
        Ok(())
    }
}

fn database() -> Database {
    let row = EpochRow {
        epoch: 1,
        trust: Trust::Undecided,
        is_first: false,
    };
    Database(std::sync::Arc::new(std::sync::Mutex::new(row)))
}

fn key(number: u64) -> String {
    format!("key-{:06}", number % KEYS)
}

fn near(criterion: &mut Criterion) {
    let runtime = runtime();
    let cache = runtime.block_on(async {
        let cache = Cache::new(database(), Config::new("bench", Mode::Local)).unwrap();
        for number in 0..KEYS {
            cache.read(&key(number)).await.unwrap();
        }
        cache
    });
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let mut next = keys.iter().cycle();
    criterion.bench_function("near hit", |bencher| {
        bencher.iter(|| black_box(cache.near(next.next().unwrap())).unwrap());
    });
}

/// A table that has every row.
struct Goods;

impl CachedDatabase for Goods {
    type Error = Infallible;

    async fn run(&self, _: &str) -> Result<Option<String>, Infallible> {
        Ok(None)
    }
}

impl Load<i64, Vec<String>> for Goods {
    type Error = Infallible;

    async fn load(&self, keys: Vec<i64>) -> Result<Vec<Option<Versioned<Vec<String>>>>, Infallible> {
        let row = |key| {
            let value = vec![format!("goods {key}"), "a shelf".to_owned()];
            Some(Versioned { version: 1, value })
        };
        Ok(keys.into_iter().map(row).collect())
    }
}

fn near_rows(criterion: &mut Criterion) {
    let runtime = runtime();
    let goods: Table<i64, Vec<String>, Infallible> = runtime.block_on(async {
        let cached = Cached::over(Goods, Config::new("bench", Mode::Local)).unwrap();
        let goods = cached.table("goods", Goods).unwrap();
        for key in 0..KEYS.cast_signed() {
            goods.get(&key).await.unwrap();
        }
        goods
    });
    let mut next = (0..KEYS.cast_signed()).cycle();
    criterion.bench_function("near hit of a row, near", |bencher| {
        bencher.iter(|| black_box(goods.near(&next.next().unwrap())).unwrap());
    });
    criterion.bench_function("near hit of a row, get", |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let start = std::time::Instant::now();
                for key in (0..KEYS.cast_signed()).cycle().take(usize::try_from(rounds).unwrap()) {
                    black_box(goods.get(&key).await.unwrap()).unwrap();
                }
                start.elapsed()
            })
        });
    });
}

fn shared(criterion: &mut Criterion) {
    let runtime = runtime();
    let Ok(server) = runtime.block_on(RedisServer::temporary().start()) else {
        return; // Redis is not installed
    };
    let cache = runtime.block_on(async {
        let mode = Mode::Strong(RedisConfig::from_url(&server.url()).unwrap());
        let cache = Cache::new(database(), Config::new("bench", mode)).unwrap();
        while cache.stats().state != State::Ok {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for number in 0..KEYS {
            cache.read(&key(number)).await.unwrap();
        }
        cache
    });
    let mut group = criterion.benchmark_group("shared hits");
    for readers in [1, READERS] {
        group.throughput(Throughput::Elements(readers));
        group.bench_function(format!("{readers} at once"), |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let start = std::time::Instant::now();
                    let mut readers: JoinSet<_> = (0..readers)
                        .map(|reader| {
                            let cache = cache.clone();
                            async move {
                                for round in 0..rounds {
                                    let key = key(reader * 7 + round);
                                    black_box(cache.read(&key).await.unwrap());
                                }
                            }
                        })
                        .collect();
                    while let Some(done) = readers.join_next().await {
                        done.unwrap();
                    }
                    start.elapsed()
                })
            });
        });
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

criterion_group!(benches, near, near_rows, shared);
criterion_main!(benches);
