//! No duration makes a pool panic: each is refused by name or works, zero and the longest included.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{
    io, panic,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use cenote_pool::{Config, Manager, Pool};
use tokio::time::timeout;

/// The first of every three connects fails.
struct Shaky(AtomicU32);

impl Manager for Shaky {
    type Connection = u32;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<u32> {
        match self.0.fetch_add(1, SeqCst) {
            number if number.is_multiple_of(3) => Err(io::Error::other("not yet")),
            number => Ok(number),
        }
    }
}

type Field = (&'static str, fn(&mut Config, Duration));

const FIELDS: [Field; 13] = [
    ("acquire_timeout", |config, it| config.acquire_timeout = it),
    ("connect_timeout", |config, it| config.connect_timeout = it),
    ("clean_timeout", |config, it| config.clean_timeout = it),
    ("close_timeout", |config, it| config.close_timeout = it),
    ("check_timeout", |config, it| config.check_timeout = it),
    ("check_after", |config, it| config.check_after = Some(it)),
    ("max_lifetime", |config, it| config.max_lifetime = Some(it)),
    ("idle_timeout", |config, it| config.idle_timeout = Some(it)),
    ("leak_after", |config, it| config.leak_after = Some(it)),
    ("backoff_base", |config, it| config.backoff_base = it),
    ("backoff_max", |config, it| config.backoff_max = Some(it)),
    ("breaker_after", |config, it| config.breaker_after = Some(it)),
    ("shed_target", |config, it| config.shed_target = Some(it)),
];

async fn is_used(config: Config) {
    let Ok(pool) = Pool::new(Shaky(AtomicU32::new(1)), config) else {
        return;
    };
    for _ in 0..3 {
        let all = (0..4).map(|_| async {
            let held = timeout(Duration::from_millis(100), pool.get()).await;
            tokio::task::yield_now().await;
            drop(held);
        });
        for each in all.collect::<Vec<_>>() {
            each.await;
        }
        let together = tokio::join!(
            pool.get_within(Duration::ZERO),
            pool.get_within(Duration::from_millis(50))
        );
        drop(together);
    }
    let _warm = timeout(Duration::from_millis(50), pool.warm_up_within(Duration::MAX)).await;
    let _stats = pool.stats();
    let _closed = timeout(Duration::from_millis(200), pool.close()).await;
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn every_duration_of_a_pool_may_be_the_longest_or_none() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, SeqCst);
        told(panic);
    }));
    for (name, set) in FIELDS {
        for duration in [
            Duration::MAX,
            Duration::ZERO,
            Duration::MAX / 2,
            Duration::from_nanos(1),
        ] {
            for with_max in [false, true] {
                let mut config = Config {
                    max_size: 2,
                    min_size: Some(1),
                    ..Config::default()
                };
                if with_max {
                    config.backoff_max = Some(Duration::MAX);
                }
                set(&mut config, duration);
                is_used(config).await;
                assert_eq!(PANICS.load(SeqCst), 0, "{name} = {duration:?}");
            }
        }
    }
}
