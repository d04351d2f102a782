//! Verdicts about the database: whether it can be reached. Invariant: one failure is told by one verdict, the gravest.

use cenote_postgres::TOO_MANY_CONNECTIONS;

use super::{Rule, Signs, rule};
use crate::dashboard::verdicts::{
    Level::{Critical, Warning},
    words::count,
};

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
];

fn is_server_full(signs: &Signs) -> bool {
    signs.connect_problem == Some(TOO_MANY_CONNECTIONS)
}
