//! Verdicts about the pool: who waits for a connection, and who holds one. Invariant: a pause explains every wait, so nothing
//! else is said of waits meanwhile.

use std::time::Duration;

use super::{LASTING, Pool, Rule, rule};
use crate::dashboard::verdicts::{
    Level::{Critical, Info, Warning},
    words::{count, time},
};

const LONG_WAIT: Duration = Duration::from_millis(100);
/// Overflow is for bursts, which are shorter.
const LONG_OVERFLOW: Duration = Duration::from_secs(60);

pub(super) static RULES: &[Rule] = &[
    rule(
        "oldest-waiter",
        Critical,
        "docs/pool-sizing.md#signs-in-pool-stats",
        |signs| {
            let Pool {
                timeout, longest_wait, ..
            } = signs.pool;
            let is_long = longest_wait > timeout / 2 && longest_wait >= LASTING;
            (is_long && !signs.pool.is_paused).then(|| {
                format!(
                    "A request has waited {} for the database: more than half of DB_POOL_TIMEOUT, {}.",
                    time(longest_wait),
                    time(timeout)
                )
            })
        },
    ),
    rule("paused", Warning, "docs/administration.md", |signs| {
        let waiting = count(signs.pool.waiting, "request");
        signs
            .pool
            .is_paused
            .then(|| format!("Paused: the pool hands out no connections. {waiting} waiting."))
    }),
    rule(
        "pool-exhausted",
        Warning,
        "docs/pool-sizing.md#signs-in-pool-stats",
        |signs| {
            is_exhausted(&signs.pool).then(|| {
                let Pool {
                    in_use,
                    waiting,
                    longest_wait,
                    ..
                } = signs.pool;
                let waits = if waiting == 1 { "waits" } else { "wait" };
                format!(
                    "All {in_use} connections are in use and {} {waits}, the first for {}.{}",
                    count(waiting, "request"),
                    time(longest_wait),
                    held_longest(&signs.pool)
                )
            })
        },
    ),
    rule(
        "callers-wait",
        Warning,
        "docs/pool-sizing.md#signs-in-pool-stats",
        |signs| {
            let wait = signs.last_minute.wait_p99;
            (wait > LONG_WAIT && !is_exhausted(&signs.pool)).then(|| {
                let Pool {
                    in_use, max, overflow, ..
                } = signs.pool;
                format!(
                    "Callers wait: p99 {}. {in_use} of {} connections are in use.{} The database's CPU is not known.",
                    time(wait),
                    max + overflow,
                    held_longest(&signs.pool)
                )
            })
        },
    ),
    rule(
        "acquire-timeouts",
        Warning,
        "docs/pool-sizing.md#which-timeout-bounds-what",
        |signs| {
            let timeouts = signs.last_minute.acquire_timeouts;
            (timeouts > 0).then(|| {
                let requests = count(timeouts, "request");
                format!("{requests} of the last minute got no connection within DB_POOL_TIMEOUT.")
            })
        },
    ),
    rule("leak", Warning, "docs/pool.md#what-each-statistic-means", |signs| {
        let leaked = signs.pool.leaked;
        (leaked > 0).then(|| {
            let limit = signs.pool.leak_after.unwrap_or_default();
            let connections = count(leaked.into(), "connection");
            let have = if leaked == 1 { "has" } else { "have" };
            let longest = held_longest(&signs.pool);
            format!(
                "{connections} {have} been held for longer than DB_POOL_LEAK_AFTER, {}: a leak, or very long work.{longest}",
                time(limit)
            )
        })
    }),
    rule(
        "overflow-in-use",
        Info,
        "docs/pool-sizing.md#how-many-connections",
        |signs| {
            let lasts = signs.pool.overflow_for.filter(|lasts| *lasts >= LONG_OVERFLOW)?;
            let Pool { size, max, .. } = signs.pool;
            Some(format!(
                "Overflow has been in use for {}: {size} connections are open, the maximum is {max}. It is for bursts; raise \
             DB_POOL_MAX_SIZE.",
                time(lasts)
            ))
        },
    ),
];

fn is_exhausted(pool: &Pool) -> bool {
    let is_full = pool.in_use >= pool.max + pool.overflow && pool.in_use > 0;
    is_full && !pool.is_paused && pool.waiting > 0 && pool.longest_wait >= LASTING
}

/// Who holds a connection longest, as a sentence that follows another one.
fn held_longest(pool: &Pool) -> String {
    let longest = pool.longest_use.as_ref();
    longest.map_or_else(String::new, |longest| {
        format!(" Held longest: {} by {}.", time(longest.lasts), longest.by)
    })
}
