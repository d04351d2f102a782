//! Get and return, alone and in a crowd: `cargo bench -p cenote-bench --bench pool`.
#![allow(missing_docs)]

use std::{hint::black_box, time::Instant};

use cenote_bench::{Acquire, bb8, cenote, deadpool};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

/// Tasks that share the pool's ten connections in `contended`.
const TASKS: u64 = 64;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"))
}

fn measure<P: Acquire>(criterion: &mut Criterion, name: &str, pool: impl AsyncFn() -> P) {
    let runtime = runtime();
    let pool = runtime.block_on(pool());
    criterion
        .benchmark_group("uncontended")
        .bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(async || {
                drop(black_box(pool.acquire().await));
            });
        });
    criterion
        .benchmark_group("contended")
        .bench_function(name, |bencher| {
            bencher
                .to_async(&runtime)
                .iter_custom(|rounds| contend(pool.clone(), rounds));
        });
}

/// Each of 64 tasks takes a connection, yields once, gives it back; `rounds` times in all.
async fn contend<P: Acquire>(pool: P, rounds: u64) -> std::time::Duration {
    let each = rounds.div_ceil(TASKS);
    let started = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    let guard = pool.acquire().await;
                    tokio::task::yield_now().await;
                    drop(black_box(guard));
                }
            })
        })
        .collect();
    for task in tasks {
        drop(task.await);
    }
    started.elapsed()
}

fn pools(criterion: &mut Criterion) {
    measure(criterion, "cenote", async || cenote());
    measure(criterion, "deadpool", async || deadpool());
    measure(criterion, "bb8", async || bb8().await);
}

criterion_group!(benches, pools);
criterion_main!(benches);
