//! A spike: more callers at once than connections, and a connect takes far longer than a query.
//!
//! The scenario is that of HikariCP's "Welcome to the Jungle". An open connection is released long before a new one
//! could be ready, so the pool must neither make a caller wait for its own connect nor open a connection for each
//! caller.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use cenote_pool::{Config, Manager, Pool};
use tokio::time::{Instant, sleep};

use crate::support::{Refused, small};

const CONNECT: Duration = Duration::from_millis(150);
const QUERY: Duration = Duration::from_millis(2);
const WARM: u32 = 5;
const MAX: u32 = 10;
const CALLERS: u32 = 50;

/// Connections are numbered in the order in which their connects began.
#[derive(Default)]
struct Slow {
    connects: AtomicU32,
}

impl Manager for Slow {
    type Connection = u32;
    type Error = Refused;

    async fn connect(&self) -> Result<u32, Refused> {
        let number = self.connects.fetch_add(1, Relaxed);
        sleep(CONNECT).await;
        Ok(number)
    }
}

/// A pool whose warm minimum is open.
async fn warm_pool() -> Pool<Slow> {
    let config = Config {
        min_size: Some(WARM),
        ..small(MAX)
    };
    let pool = Pool::new(Slow::default(), config).unwrap();
    while pool.stats().idle < WARM {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(pool.manager().connects.load(Relaxed), WARM);
    pool
}

/// All callers at once. Returns the time until the last was served, and the connections that served them.
async fn spike(pool: &Pool<Slow>, query: Duration) -> (Duration, Vec<u32>) {
    let started = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let connection = pool.get_owned().await.unwrap();
            sleep(query).await;
            *connection
        })
    });
    let mut numbers = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        numbers.push(caller.await.unwrap());
    }
    (started.elapsed(), numbers)
}

#[tokio::test(start_paused = true)]
async fn short_commands_in_a_spike_are_all_served_by_the_warm_connections() {
    let pool = warm_pool().await;
    let (took, numbers) = spike(&pool, QUERY).await;
    let rounds = CALLERS / WARM;
    println!(
        "{CALLERS} callers, {WARM} of {MAX} connections open, connect {CONNECT:?}, query {QUERY:?}: {took:?}, {} connects",
        pool.manager().connects.load(Relaxed) - WARM
    );
    assert!(numbers.iter().all(|number| *number < WARM), "{numbers:?}");
    assert!(took >= QUERY * rounds, "{took:?}");
    assert!(took < QUERY * rounds * 2, "{took:?}"); // timers are a millisecond coarse
}

#[tokio::test(start_paused = true)]
async fn a_spike_of_short_commands_begins_one_connect_and_none_after_it_is_over() {
    let pool = warm_pool().await;
    spike(&pool, QUERY).await;
    let begun = pool.manager().connects.load(Relaxed) - WARM;
    assert_eq!(begun, 1);
    sleep(CONNECT * 4).await;
    assert_eq!(pool.manager().connects.load(Relaxed) - WARM, begun);
    // The connection is kept for the next spike.
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.in_use), (WARM + begun, 0));
    assert_eq!(stats.connecting_times.count(), 0, "a caller waited for one");
    let (took, _) = spike(&pool, QUERY).await;
    println!("the next spike: {took:?} with {} connections", stats.idle);
    assert!(pool.stats().size() <= MAX);
}

#[tokio::test(start_paused = true)]
async fn when_commands_take_as_long_as_a_connect_the_pool_grows_to_its_maximum() {
    let pool = warm_pool().await;
    let (took, numbers) = spike(&pool, CONNECT).await;
    println!("queries of {CONNECT:?}: {took:?}");
    assert_eq!(pool.stats().size(), MAX);
    let by_warm = numbers.iter().filter(|number| **number < WARM).count();
    assert!(by_warm < numbers.len(), "no new connection was used");
    // Five connections would take ten rounds. With ten from the second round on it is six.
    assert!(took < CONNECT * 8, "{took:?}");
}
