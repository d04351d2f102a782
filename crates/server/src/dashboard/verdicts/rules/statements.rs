//! Verdicts about statements that take long. Invariant: each is there while the statement runs, not only once it has ended.

use super::{LASTING, Rule, rule};
use crate::dashboard::verdicts::{
    Level::Warning,
    words::{count, time},
};

pub(super) static RULES: &[Rule] = &[
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
            let wait = signs.pool.longest_lock_wait;
            (wait >= LASTING).then(|| {
                format!(
                    "A write has waited {} for a lock: another transaction keeps its row or the table locked. In \
                     PostgreSQL, pg_blocking_pids() of the sessions in pg_stat_activity names it.",
                    time(wait)
                )
            })
        },
    ),
];
