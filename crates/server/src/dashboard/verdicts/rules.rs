//! The verdicts, by the same rules as the alerts of `deploy/alerts.yml`. An alert waits until a sign has lasted; a verdict
//! holds while the sign is there, because somebody looks at it now.
//!
//! Invariant: a rule and the alert of the same name have the same level and the same threshold; a test compares names and levels.

use std::time::Duration;

use cenote_postgres::TOO_MANY_CONNECTIONS;

use super::{
    Level::{self, Critical, Info, Warning},
    Pool, Signs,
    words::{count, share, time},
};

/// When a verdict holds, and what it says.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) doc: &'static str,
    /// Returns the text; `None` if the verdict does not hold.
    pub(super) says: fn(&Signs) -> Option<String>,
}

/// An error budget of 0.1 % is used up 14.4 times too fast, in thousandths of a percent.
const ERRORS: u64 = 1_440;
/// Fewer errors in a minute say nothing about a share.
const FEWEST_ERRORS: u64 = 5;
const LONG_WAIT: Duration = Duration::from_millis(100);
/// A request that has waited this long waits in a queue that does not drain. Shorter waits come and go under normal load.
const STANDING: Duration = Duration::from_millis(250);
/// Overflow is for bursts, which are shorter.
const LONG_OVERFLOW: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const MOST_GUESSES: u64 = 100;

const fn rule(name: &'static str, level: Level, doc: &'static str, says: fn(&Signs) -> Option<String>) -> Rule {
    Rule { name, level, doc, says }
}

/// All rules. Verdicts of the same level are shown in this order.
pub(super) static RULES: &[Rule] = &[
    rule("starting", Warning, "docs/troubleshooting.md", |signs| {
        let text = "Starting: the service waits for its database, or brings the schema up to date.";
        signs.is_starting.then(|| text.to_owned())
    }),
    rule(
        "database-away",
        Critical,
        "docs/troubleshooting.md#connecting-to-postgresql",
        |signs| {
            let problem = signs.connect_problem.unwrap_or("connects fail");
            let failed = count(signs.pool.failures_in_a_row.into(), "connect");
            signs.pool.is_breaker_open.then(|| {
            format!("The database is away: {problem}. {failed} failed in a row; requests that need it are refused at once.")
        })
        },
    ),
    rule(
        "max-connections",
        Critical,
        "docs/pool-sizing.md#how-many-connections",
        |signs| {
            let text = "The database has as many connections as its max_connections allows, and refuses more. Lower \
                    DB_POOL_MAX_SIZE of all instances, or raise max_connections.";
            is_server_full(signs).then(|| text.to_owned())
        },
    ),
    rule(
        "oldest-waiter",
        Critical,
        "docs/pool-sizing.md#signs-in-pool-stats",
        |signs| {
            let Pool {
                timeout, longest_wait, ..
            } = signs.pool;
            let is_long = longest_wait > timeout / 2 && longest_wait >= STANDING;
            (is_long && !signs.pool.is_paused).then(|| {
                format!(
                    "A request has waited {} for the database: more than half of DB_POOL_TIMEOUT, {}.",
                    time(longest_wait),
                    time(timeout)
                )
            })
        },
    ),
    rule(
        "errors",
        Critical,
        "docs/errors.md#the-service-cannot-serve-it-now-retry",
        |signs| {
            let minute = &signs.last_minute;
            let is_high = minute.errors * 100_000 > ERRORS * minute.requests && minute.errors >= FEWEST_ERRORS;
            is_high.then(|| {
                format!(
                    "{} of the requests of the last minute failed ({} with status 5xx). The last errors are below.",
                    share(minute.errors, minute.requests),
                    minute.errors
                )
            })
        },
    ),
    rule("memory-critical", Critical, "docs/memory.md#what-is-done", |signs| {
        let shortage = signs.shortage.as_ref().filter(|shortage| shortage.is_critical)?;
        Some(format!(
            "Memory is short: {}. Long bodies may be refused.",
            shortage.text
        ))
    }),
    rule("certificate-expires-soon", Critical, "docs/tls.md#reload", |signs| {
        let left = signs.certificate.as_ref()?.left;
        (left < 3 * DAY).then(|| {
            format!(
                "The certificate expires in {}. Replace TLS_CERT and TLS_KEY.",
                time(left)
            )
        })
    }),
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
            let connections = count(leaked.into(), "connection");
            let have = if leaked == 1 { "has" } else { "have" };
            let longest = held_longest(&signs.pool);
            format!("{connections} {have} been held for more than a minute: a leak, or very long work.{longest}")
        })
    }),
    rule(
        "slow-statements",
        Warning,
        "docs/pool-sizing.md#which-timeout-bounds-what",
        |signs| {
            let slow = signs.pool.slow?;
            let statements = signs.last_minute.slow_statements;
            if statements > 0 {
                let statements = count(statements, "statement");
                return Some(format!(
                    "{statements} of the last minute took longer than DB_SLOW_QUERY, {}. The last ones are below.",
                    time(slow)
                ));
            }
            let longest = signs.pool.longest_use.as_ref().filter(|longest| longest.lasts > slow)?;
            let (lasts, by) = (time(longest.lasts), &longest.by);
            Some(format!(
                "A connection has been in use for {lasts} by {by}: a slow statement, or one that waits for a lock."
            ))
        },
    ),
    rule(
        "lock-wait",
        Warning,
        "docs/errors.md#the-service-cannot-serve-it-now-retry",
        |signs| {
            let failures = signs.last_minute.lock_failures;
            (failures > 0).then(|| {
            let statements = count(failures, "statement");
            format!(
                "{statements} of the last minute waited too long for a lock: another transaction keeps rows or a table \
                 locked. In PostgreSQL, pg_blocking_pids() of the sessions in pg_stat_activity names it."
            )
        })
        },
    ),
    rule(
        "connect-failures",
        Warning,
        "docs/troubleshooting.md#connecting-to-postgresql",
        |signs| {
            let failures = signs
                .last_minute
                .connect_failures
                .max(signs.pool.failures_in_a_row.into());
            let is_told = signs.pool.is_breaker_open || is_server_full(signs);
            (failures > 0 && !is_told).then(|| {
                let failed = count(failures, "connect");
                match signs.connect_problem {
                    Some(problem) => format!("{failed} to the database failed lately: {problem}."),
                    None => format!("{failed} to the database failed lately. The last one succeeded."),
                }
            })
        },
    ),
    rule(
        "cache-not-used",
        Warning,
        "docs/coherence.md#what-happens-when",
        |signs| {
            let problem = signs.cache_problem.as_ref()?;
            Some(format!("The cache is not used: {problem}."))
        },
    ),
    rule("redis-down", Warning, "docs/troubleshooting.md#redis", |signs| {
        let problem = signs.redis_problem.as_ref()?;
        Some(format!("There is no connection to Redis: {problem}."))
    }),
    rule(
        "change-feed-down",
        Warning,
        "docs/coherence.md#writes-that-bypass-cenote",
        |signs| {
            let text = "The change feed is interrupted: changes made outside the service are not seen.";
            signs.is_feed_down.then(|| text.to_owned())
        },
    ),
    rule("memory-short", Warning, "docs/memory.md#what-is-done", |signs| {
        let shortage = signs.shortage.as_ref().filter(|shortage| !shortage.is_critical)?;
        Some(format!("Memory gets short: {}.", shortage.text))
    }),
    rule("certificate-expires", Warning, "docs/tls.md#reload", |signs| {
        let left = signs.certificate.as_ref()?.left;
        let is_near = left < 14 * DAY && left >= 3 * DAY;
        is_near.then(|| {
            format!(
                "The certificate expires in {}. Replace TLS_CERT and TLS_KEY.",
                time(left)
            )
        })
    }),
    rule("certificate-not-loaded", Warning, "docs/tls.md#reload", |signs| {
        let text = "The changed TLS files cannot be used; the old certificate is still in force. The log names the file \
                    and the reason.";
        signs.certificate.as_ref()?.has_failed_reload.then(|| text.to_owned())
    }),
    rule("token-keys-old", Warning, "docs/auth.md#tokens", |signs| {
        let problem = signs.token_keys_problem.as_ref()?;
        Some(format!("Tokens: {problem}."))
    }),
    rule("api-keys-not-confirmed", Warning, "docs/auth.md#api-keys", |signs| {
        let problem = signs.api_keys_problem.as_ref()?;
        Some(format!("API keys: {problem}."))
    }),
    rule(
        "limits-not-shared",
        Warning,
        "docs/limits.md#several-instances",
        |signs| {
            let problem = signs.limits_problem.as_ref()?;
            Some(format!("Limits are not shared: {problem}."))
        },
    ),
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
    rule(
        "guessed-credentials",
        Info,
        "docs/auth.md#what-is-refused-and-why",
        |signs| {
            let guesses = signs.guesses;
            (guesses > MOST_GUESSES).then(|| {
            format!("Somebody tries many credentials: {guesses} failed logins of the last five minutes were refused by their limit.")
        })
        },
    ),
    rule("no-requests", Info, "README.md", |signs| {
        let text = "No requests yet. Write a key, then read it.";
        (signs.is_unused && !signs.is_starting).then(|| text.to_owned())
    }),
];

fn is_server_full(signs: &Signs) -> bool {
    signs.connect_problem == Some(TOO_MANY_CONNECTIONS)
}

fn is_exhausted(pool: &Pool) -> bool {
    let is_full = pool.in_use >= pool.max + pool.overflow && pool.in_use > 0;
    is_full && !pool.is_paused && pool.waiting > 0 && pool.longest_wait >= STANDING
}

/// Who holds a connection longest, as a sentence that follows another one.
fn held_longest(pool: &Pool) -> String {
    let longest = pool.longest_use.as_ref();
    longest.map_or_else(String::new, |longest| {
        format!(" Held longest: {} by {}.", time(longest.lasts), longest.by)
    })
}
