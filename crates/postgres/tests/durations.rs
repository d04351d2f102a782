//! No duration of the settings makes anything panic, not the longest and not zero: each is refused by name or works.
//!
//! A binary of its own, because it counts the panics of the whole process.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

#[allow(dead_code, reason = "this test uses a part of it")]
mod support;

use std::{
    panic,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use cenote_postgres::{Config, Listener, ListenerOptions, Pool, Retry};
use support::{SOON, database};
use tokio::time::timeout;

type Field = (&'static str, fn(&mut Config, Duration));

const FIELDS: [Field; 12] = [
    ("acquire_timeout", |config, it| config.pool.acquire_timeout = it),
    ("connect_timeout", |config, it| config.pool.connect_timeout = it),
    ("check_timeout", |config, it| config.pool.check_timeout = it),
    ("clean_timeout", |config, it| config.pool.clean_timeout = it),
    ("close_timeout", |config, it| config.pool.close_timeout = it),
    ("max_lifetime", |config, it| config.pool.max_lifetime = Some(it)),
    ("command_timeout", |config, it| config.command_timeout = Some(it)),
    ("slow_query", |config, it| config.slow_query = Some(it)),
    ("lookup_interval", |config, it| config.lookup_interval = Some(it)),
    ("degraded_latency", |config, it| config.degraded_latency = it),
    ("retry.delay", |config, it| config.retry.delay = it),
    ("server.connect_timeout", |config, it| {
        config.server.connect_timeout(it);
    }),
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, SeqCst);
        told(panic);
    }));
}

/// Uses a pool. With the longest duration everything works; with zero, nothing panics.
async fn is_used(config: Config, works: bool) {
    let Ok(pool) = Pool::new(config) else {
        return assert!(!works, "it is refused");
    };
    let query = async { pool.get().await?.query_one("SELECT 7", &[]).await };
    match timeout(SOON, query).await {
        Ok(Ok(row)) => assert_eq!(row.get::<_, i32>(0), 7),
        failed => assert!(!works, "{failed:?}"),
    }
    let retried = pool.retry_idempotent(|| async { pool.get().await?.query("SELECT 1 / 0", &[]).await });
    let _failed = timeout(Duration::from_millis(300), retried).await;
    let _health = timeout(SOON, pool.health()).await;
    let _closed = timeout(Duration::from_secs(1), pool.close()).await;
}

#[tokio::test]
async fn every_duration_of_a_pool_may_be_the_longest_or_zero() {
    count_panics();
    let database = database().await;
    for (name, set) in FIELDS {
        for duration in [Duration::MAX, Duration::ZERO] {
            let mut config = database.config(2);
            config.retry = Retry {
                attempts: 2,
                delay: Duration::from_millis(1),
            };
            if duration.is_zero() {
                // A pool that cannot connect makes its callers wait for this long.
                config.pool.acquire_timeout = Duration::from_secs(1);
            }
            set(&mut config, duration);
            is_used(config, duration == Duration::MAX).await;
            assert_eq!(PANICS.load(SeqCst), 0, "{name} = {duration:?}");
        }
    }
    let mut config = database.config(2);
    for (_, set) in FIELDS {
        set(&mut config, Duration::MAX);
    }
    is_used(config, true).await;
    for duration in [Duration::MAX, Duration::ZERO] {
        let options = ListenerOptions {
            check_every: duration,
            check_timeout: duration,
            ..ListenerOptions::default()
        };
        let config = database.config(1);
        let connecting = Listener::connect_with(&config, options);
        if let Ok(Ok(mut listener)) = timeout(SOON, connecting).await {
            let _listening = timeout(SOON, listener.listen("channel")).await;
            let _event = timeout(Duration::from_millis(100), listener.recv()).await;
        }
        assert_eq!(PANICS.load(SeqCst), 0, "listener, {duration:?}");
    }
}
