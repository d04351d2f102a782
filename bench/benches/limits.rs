//! The cost of a decision of the rate limits: for callers that are tracked, refused, and new, and while another core decides
//! about the same caller.
//!
//! ```text
//! cargo bench -p cenote-bench --bench limits
//! ```

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark; criterion makes the main function"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use cenote::limits::{Base, Caller, Limits, LimitsConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::time::Instant;

/// Callers that are served in turn, so that their buckets are not always in the nearest cache.
const CALLERS: usize = 10_000;

fn limits(read: &str) -> Limits {
    Limits::new(&LimitsConfig {
        read: read.parse().unwrap(),
        ..LimitsConfig::default()
    })
}

/// Ids are hashes.
fn callers(count: usize) -> Vec<u64> {
    (0..count as u64)
        .map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect()
}

fn decide(limits: &Limits, caller: &u64, now: Instant) -> bool {
    let verdict = limits.charge(Base::Read.into(), Caller::Identity(*caller), None, now);
    black_box(verdict).is_refused()
}

fn decisions(criterion: &mut Criterion) {
    let callers = callers(CALLERS);
    for (case, policy) in [
        ("admitted", "1000000/s burst=100000"),
        (
            "admitted, two windows",
            "1000000/s burst=100000, 1000000000/h burst=100000",
        ),
        ("refused", "1/d burst=1"),
    ] {
        let limits = limits(policy);
        let mut next = callers.iter().cycle();
        criterion.bench_function(case, |bencher| {
            bencher.iter(|| decide(&limits, next.next().unwrap(), Instant::now()));
        });
    }
}

/// Each request is from another caller, as in an attack from many addresses.
fn newcomers(criterion: &mut Criterion) {
    for (case, policy) in [("new, room", "1000000/s"), ("new, no room", "1/d")] {
        let limits = limits(policy);
        let callers = callers(CALLERS * 100);
        let mut next = callers.iter().cycle();
        criterion.bench_function(case, |bencher| {
            bencher.iter(|| decide(&limits, next.next().unwrap(), Instant::now()));
        });
    }
}

/// Another core decides about the same caller all the time, which no service does.
fn contended(criterion: &mut Criterion) {
    let limits = limits("1000000/s burst=100000");
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Relaxed) {
                decide(&limits, &1, Instant::now());
            }
        });
        criterion.bench_function("admitted, two cores compete", |bencher| {
            bencher.iter(|| decide(&limits, &1, Instant::now()));
        });
        over.store(true, Relaxed);
    });
}

criterion_group!(benches, decisions, newcomers, contended);
criterion_main!(benches);
