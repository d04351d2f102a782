//! Many callers at once, more than there are connections, before a server to which it takes far
//! longer to connect than to ask it something.
//!
//! The scene is the one in which HikariCP's "Welcome to the Jungle" compares pools: whoever waits
//! for a connection that is open already is served long before a new one could be ready, so the
//! pool must neither make callers wait for their own connect nor open one for each of them.

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

/// Connections are numbered in the order in which they were asked for.
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

/// A pool that has just opened its warm minimum.
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

/// All callers at once: how long it took until the last had its answer, and which connections
/// served them.
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
    // What was begun is kept for the next spike.
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
    // Five connections alone would take ten rounds; with ten from the second round on it is six.
    assert!(took < CONNECT * 8, "{took:?}");
}
