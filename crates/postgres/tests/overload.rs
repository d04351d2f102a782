//! More requests than the database can serve: those that are served are served in time, the others are refused at once.
//!
//! A binary of its own, because it measures how much is served: no other test may run meanwhile.

#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

#[allow(dead_code, reason = "this test uses a part of it")]
mod support;

use std::time::Duration;

use cenote_postgres::{Batch, BatchCalls, BatchLimits, Batcher, Error, ExtraBatches, Pooled, Weight};
use support::database;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// A statement takes 20 ms, however many requests share it, so the rate that can be served is known.
struct Slow;

impl Batch for Slow {
    type Request = ();
    type Response = ();

    fn weight(&self, (): &()) -> Weight {
        Weight { rows: 1, bytes: 1 }
    }

    fn key(&self, (): &()) -> Option<u64> {
        None
    }

    async fn run(&self, connection: Pooled<'_>, calls: &BatchCalls<Self>) {
        let slept = connection.execute("SELECT pg_sleep(0.02)", &[]).await;
        calls.answer_all(|_| slept.clone().map(drop));
    }
}

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Debug, Default)]
struct Seen {
    /// Requests answered in time, per second.
    goodput: f64,
    refused: usize,
    expired: usize,
    /// Requests that were sent although their callers had given up.
    wasted: usize,
    /// The longest time until a refusal.
    slowest_refusal: Duration,
}

/// Callers that come at this rate, whether those before them are answered or not.
async fn load(batcher: &Batcher<Slow>, per_second: f64, during: Duration) -> Seen {
    const TICK: Duration = Duration::from_millis(5);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut callers, mut due) = (JoinSet::new(), 0.0);
    let end = Instant::now() + during;
    while Instant::now() < end {
        ticks.tick().await;
        due += per_second * TICK.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            let batcher = batcher.clone();
            callers.spawn(async move {
                let asked = Instant::now();
                let answer = batcher.submit_within((), PATIENCE).await;
                (answer, asked.elapsed())
            });
        }
    }
    let (mut seen, mut good) = (Seen::default(), 0);
    while let Some(done) = callers.join_next().await {
        let (answer, took) = done.unwrap();
        match answer {
            Ok(()) => good += 1,
            Err(Error::QueueFull { .. }) => {
                seen.refused += 1;
                seen.slowest_refusal = seen.slowest_refusal.max(took);
            }
            Err(Error::Deadline { sent: false, .. }) => seen.expired += 1,
            Err(Error::Deadline { sent: true, .. }) => seen.wasted += 1,
            Err(error) => panic!("{error}"),
        }
    }
    seen.goodput = f64::from(good) / during.as_secs_f64();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_four_times_what_can_be_served_as_much_is_served_in_time_as_ever() {
    let pool = database().await.pool(2);
    let limits = BatchLimits {
        workers: 1,
        extra: ExtraBatches::new(0),
        batch_rows: 16,
        ..BatchLimits::of(&pool)
    };
    let batcher = Batcher::with_limits(Slow, &pool, limits);
    // Other work on this machine can only lower what is measured.
    let mut more_tries = 0..2;
    let is_kept = async || {
        let before = best(&batcher).await;
        let overloaded = load(&batcher, before * 4.0, Duration::from_secs(4)).await;
        // The overload ends with the load; the machine may have become slower meanwhile.
        let after = best(&batcher).await;
        println!("best {before:.0}/s and {after:.0}/s; at four times that: {overloaded:?}");
        assert!(overloaded.refused > 0, "{overloaded:?}");
        let stats = batcher.stats();
        assert_eq!((stats.waiting, stats.waiting_bytes), (0, 0));
        overloaded.goodput > before.min(after) * 0.9
    };
    while !is_kept().await {
        assert!(more_tries.next().is_some(), "never nine tenths of the best");
    }
}

/// The requests per second that can be served, measured with enough callers at all times.
async fn best(batcher: &Batcher<Slow>) -> f64 {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let batcher = batcher.clone();
        callers.spawn(async move {
            let mut served = 0;
            while started.elapsed() < Duration::from_millis(1500) {
                batcher.submit(()).await.unwrap();
                served += 1;
            }
            served
        });
    }
    let served: i32 = callers.join_all().await.into_iter().sum();
    f64::from(served) / started.elapsed().as_secs_f64()
}
