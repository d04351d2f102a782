//! Many tasks on few connections. Invariant: all tasks start together, do the same work and note
//! every wait.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Barrier, task::yield_now};

use super::{Contender, sure};

/// Tasks that share the pool's ten connections.
pub const TASKS: usize = 64;

/// The measurements of a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Connections taken and given back per second, by all tasks together.
    pub per_second: f64,
    /// The median wait.
    pub median: Duration,
    /// The 99th percentile of the wait.
    pub p99: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Crowd {
    /// Each of [`TASKS`] tasks takes a connection, yields to the others once while it holds it, and
    /// gives it back; `each` times.
    pub async fn run<P: Contender>(pool: &P, each: usize) -> Self {
        let start = Arc::new(Barrier::new(TASKS + 1));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(take_turns(pool.clone(), start.clone(), each)))
            .collect();
        start.wait().await;
        let begun = Instant::now();
        let mut waits = Vec::with_capacity(TASKS * each);
        for task in tasks {
            waits.extend(sure(task.await));
        }
        let took = begun.elapsed();
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        Self {
            per_second: waits.len() as f64 / took.as_secs_f64(),
            median: at(0.5),
            p99: at(0.99),
            longest: at(1.0),
        }
    }
}

async fn take_turns<P: Contender>(pool: P, start: Arc<Barrier>, each: usize) -> Vec<Duration> {
    let mut waits = Vec::with_capacity(each);
    start.wait().await;
    for _ in 0..each {
        let asked = Instant::now();
        let guard = sure(pool.acquire().await);
        waits.push(asked.elapsed());
        yield_now().await;
        drop(black_box(guard));
    }
    waits
}
