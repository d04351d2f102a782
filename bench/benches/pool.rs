//! The time of a get and return, for one task and for many: `cargo bench -p cenote-bench --bench pool`.
//!
//! Criterion measures one pool after another. `make bench-pool` lets them take turns, which is fairer on a machine with
//! other load.
#![allow(missing_docs)]

use cenote_bench::pools::{Bb8, Cenote, Contender, Crowd, Deadpool, Mobc, Qorb, Sqlx, TASKS, alone, warm};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"))
}

fn measure<P: Contender>(criterion: &mut Criterion) {
    let runtime = runtime();
    let pool: P = runtime.block_on(warm());
    criterion.benchmark_group("alone").bench_function(P::NAME, |bencher| {
        bencher.to_async(&runtime).iter(|| alone(&pool, 1));
    });
    criterion.benchmark_group("crowd").bench_function(P::NAME, |bencher| {
        bencher.to_async(&runtime).iter_custom(|gets| {
            let pool = pool.clone();
            async move {
                let each = gets.div_ceil(TASKS as u64) as usize;
                let crowd = Crowd::run(&pool, each).await;
                std::time::Duration::from_secs_f64(gets as f64 / crowd.per_second)
            }
        });
    });
}

fn pools(criterion: &mut Criterion) {
    measure::<Cenote>(criterion);
    measure::<Deadpool>(criterion);
    measure::<Bb8>(criterion);
    measure::<Sqlx>(criterion);
    measure::<Mobc>(criterion);
    measure::<Qorb>(criterion);
}

criterion_group!(benches, pools);
criterion_main!(benches);
