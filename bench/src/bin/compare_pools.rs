//! Compares the pools and prints a table: `make bench-pool`.
//!
//! Invariant: the pools take turns after each round, so other load on the machine affects all of them. The figures are
//! medians of the rounds.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use cenote_bench::median;
use cenote_bench::pools::{
    Bb8, Cenote, Contender, Counting, Crowd, Deadpool, Mobc, Qorb, SIZE, Sqlx, TASKS, Users, alone, per_use, warm,
};
use tokio::runtime::Builder;

/// The number of rounds of each pool.
const ROUNDS: usize = 11;
/// Gets and returns of one task alone in a round.
const ALONE: u64 = 100_000;
/// Gets and returns of each task of the crowd in a round.
const EACH: usize = 4_000;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The measurements of one pool.
#[derive(Default)]
struct Rounds {
    name: &'static str,
    /// Instructions for one task alone and for the crowd.
    instructions: [Option<u64>; 2],
    alone: Vec<Duration>,
    crowds: Vec<Crowd>,
}

fn main() -> Outcome<()> {
    if let Some(counting) = Counting::asked() {
        counting.run::<Cenote>()?;
        counting.run::<Deadpool>()?;
        counting.run::<Bb8>()?;
        counting.run::<Sqlx>()?;
        counting.run::<Mobc>()?;
        counting.run::<Qorb>()?;
        return Ok(());
    }
    let mut all: [Rounds; 6] = Default::default();
    for _ in 0..ROUNDS {
        let [cenote, deadpool, bb8, sqlx, mobc, qorb] = &mut all;
        turn::<Cenote>(cenote)?;
        turn::<Deadpool>(deadpool)?;
        turn::<Bb8>(bb8)?;
        turn::<Sqlx>(sqlx)?;
        turn::<Mobc>(mobc)?;
        turn::<Qorb>(qorb)?;
    }
    let [cenote, deadpool, bb8, sqlx, mobc, qorb] = &mut all;
    count::<Cenote>(cenote)?;
    count::<Deadpool>(deadpool)?;
    count::<Bb8>(bb8)?;
    count::<Sqlx>(sqlx)?;
    count::<Mobc>(mobc)?;
    count::<Qorb>(qorb)?;
    print(&all);
    Ok(())
}

/// Runs one round of one pool on its own runtime, so that no task of the pool runs during another one's round.
fn turn<P: Contender>(rounds: &mut Rounds) -> Outcome<()> {
    rounds.name = P::NAME;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    // In a task, because `block_on` runs its future outside of the runtime's workers.
    let round = runtime.spawn(async {
        let pool: P = warm().await;
        alone(&pool, ALONE / 10).await;
        let begun = Instant::now();
        alone(&pool, ALONE).await;
        let alone = begun.elapsed() / ALONE as u32;
        (alone, Crowd::run(&pool, EACH).await)
    });
    let (alone, crowd) = runtime.block_on(round)?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    rounds.alone.push(alone);
    rounds.crowds.push(crowd);
    Ok(())
}

fn count<P: Contender>(rounds: &mut Rounds) -> Outcome<()> {
    rounds.instructions = [per_use::<P>(Users::One)?, per_use::<P>(Users::Crowd)?];
    Ok(())
}

fn print(all: &[Rounds]) {
    println!(
        "\nMedians of {ROUNDS} rounds, the pools in turn. \
         Crowd: {TASKS} tasks on {SIZE} connections.\n"
    );
    println!("| Pool | Alone | Instructions | Crowd, a second | Instructions | Wait, median | p99 | Longest |");
    println!("|---|---|---|---|---|---|---|---|");
    for rounds in all {
        let [alone, crowd] = rounds.instructions.map(|counted| match counted {
            Some(count) => count.to_string(),
            None => "no valgrind".to_owned(),
        });
        let of = |value: fn(&Crowd) -> f64| {
            let values: Vec<f64> = rounds.crowds.iter().map(value).collect();
            median(&values)
        };
        println!(
            "| {} | {} ns | {alone} | {:.0} | {crowd} | {:.0} µs | {:.0} µs | {:.0} µs |",
            rounds.name,
            median(&rounds.alone).as_nanos(),
            of(|crowd| crowd.per_second),
            of(|crowd| micros(crowd.median)),
            of(|crowd| micros(crowd.p99)),
            of(|crowd| micros(crowd.longest)),
        );
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
