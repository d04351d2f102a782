//! From the database's errors to answers. Invariant: an unknown outcome is answered as unknown, and no answer
//! holds an address, a name, a statement or the server's own words.

use std::time::Duration;

use cenote_cache::fenced::{NotFenced, Obstacle};
use cenote_postgres::{AcquireError, Error, Reason, summarize};

use crate::{
    http::{Member, Problem},
    memory::Full,
    store::{WriteError, is_unrepresentable},
};

/// Seconds after which a caller should try again.
const RETRY_AFTER: u32 = 1;

/// A command that changes nothing failed.
pub(crate) fn of_read(error: Error) -> Problem {
    of(error, "")
}

/// A write of a key that goes through the cache failed.
pub(crate) fn of_cached_write(error: WriteError) -> Problem {
    match error {
        WriteError::Database(error) => match of_value(&error, ["key", "value"], "key") {
            Some(problem) => problem,
            None => of_write(error),
        },
        WriteError::NotFenced(error) => of_not_fenced(error),
        WriteError::Standby => read_only().cause(error),
    }
}

/// A delete of a key failed.
pub(crate) fn of_delete(error: WriteError) -> Problem {
    match error {
        WriteError::Database(error) if is_unrepresentable(&error) => {
            Problem::not_found("there is no value under this key")
        }
        error => of_cached_write(error),
    }
}

/// A user could not be added.
pub(crate) fn of_new_user(error: Error) -> Problem {
    of_value(&error, ["name", "email"], "email").unwrap_or_else(|| of_write(error))
}

/// A value that the database cannot hold, with the field it came in. `fields` are those of the statement's first
/// parameters, `indexed` is the one whose length an index bounds.
fn of_value(error: &Error, fields: [&'static str; 2], indexed: &'static str) -> Option<Problem> {
    let Error::Database(refused) = error else {
        return None;
    };
    let code = refused.code().code();
    let detail = match code {
        "22P05" | "22021" => "has a character that the database's encoding does not have",
        "22001" => "is longer than the database's column",
        "54000" => "is longer than the database's index takes",
        _ if matches!(code.get(..2), Some("22" | "54")) => "is nothing that the database can hold",
        _ => return None,
    };
    // "unnamed portal parameter $2", in whatever language.
    let parameter = |at: usize| {
        refused
            .where_()
            .is_some_and(|place| place.contains(&format!("${}", at + 1)))
    };
    let field = match code {
        "54000" => Some(indexed),
        _ => (0..fields.len()).find(|at| parameter(*at)).map(|at| fields[at]),
    };
    let named = field.unwrap_or("");
    Some(Problem::unprocessable().field(named, detail))
}

/// There is no room for a large answer.
pub(crate) fn of_full(Full { waited }: Full) -> Problem {
    let seconds = waited.as_secs_f64();
    let detail = format!("waited {seconds:.1} s for memory: other large answers have not been taken by their clients");
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Problem::unavailable("answers-waiting", detail, RETRY_AFTER).member("waited_ms", Member::Number(waited))
}

/// Nothing was written, because readers could not be kept from older values.
fn of_not_fenced(NotFenced { waited, reason }: NotFenced) -> Problem {
    let seconds = waited.as_secs_f64();
    let why = match reason {
        Obstacle::Unreachable => "Redis did not answer",
        Obstacle::UnknownEpoch => "the database did not say which Redis is in use",
        Obstacle::UnreadableEpoch(cause) => {
            let detail = "nothing was written: the database cannot say which Redis is in use until someone changes \
                          something; the log says why";
            let problem = Problem::unavailable("cache-unreachable", detail.to_owned(), RETRY_AFTER);
            return problem.member("waited_ms", Member::Number(0)).cause(cause);
        }
    };
    let detail = format!("nothing was written: {why} for {seconds:.1} s");
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Problem::unavailable("cache-unreachable", detail, RETRY_AFTER).member("waited_ms", Member::Number(waited))
}

/// A command that changes something failed.
pub(crate) fn of_write(error: Error) -> Problem {
    match error.is_outcome_unknown() {
        true => of(error, "; whether it took effect is not known"),
        false => of(error, ""),
    }
}

fn of(error: Error, outcome: &str) -> Problem {
    match &error {
        Error::Acquire(refused) => of_acquire(refused),
        Error::QueueFull {
            waiting,
            bytes,
            retry_after,
        } => Problem::unavailable(
            "pool-overloaded",
            format!("{waiting} requests with {bytes} bytes are waiting for the database already"),
            whole_seconds(*retry_after),
        )
        .member("waiting", Member::Number(*waiting as u64)),
        Error::Deadline { waited, sent } => of_deadline(*waited, *sent, outcome),
        Error::Timeout(limit) => {
            let seconds = limit.as_secs_f64();
            Problem::gateway_timeout(format!(
                "the database did not finish within {seconds} s and was told to stop{outcome}"
            ))
        }
        Error::Lost { .. } | Error::Disconnected { .. } => {
            let slug = match outcome {
                "" => "database-unavailable",
                _ => "outcome-unknown",
            };
            let detail = format!("the connection to the database was lost{outcome}");
            Problem::unavailable(slug, detail, RETRY_AFTER)
        }
        Error::Database(refused) => of_code(refused.code().code()),
        Error::Stale(_) => {
            Problem::unavailable("schema-not-ready", "the database schema is being changed", RETRY_AFTER)
        }
        _ => Problem::internal("the database driver failed"),
    }
    .cause(error)
}

/// The database serves reads only.
fn read_only() -> Problem {
    let detail = "the database accepts no writes at the moment; it can be read";
    Problem::unavailable("read-only", detail.to_owned(), RETRY_AFTER)
}

/// What the server's error code says about trying again.
fn of_code(code: &str) -> Problem {
    let unavailable = |slug, detail| Problem::unavailable(slug, detail, RETRY_AFTER);
    match code {
        "57014" => Problem::gateway_timeout("the database stopped the statement"),
        "40001" | "40P01" | "55P03" => {
            unavailable("conflict-retries-exhausted", "too many callers change the same thing")
        }
        "42P01" | "42703" => unavailable("schema-not-ready", "the database schema is not ready"),
        "25006" => read_only(),
        "42501" => unavailable(
            "schema-not-ready",
            "the database role may not use the tables as the service does",
        ),
        _ => match code.get(..2) {
            Some("22" | "54") => Problem::unprocessable().field("", "is nothing that the database can hold"),
            // An identity that is behind its table is nothing that the client can mend.
            Some("23" | "P0") if code != "23505" => {
                Problem::unprocessable().field("", "is refused by a rule that somebody has added to the database")
            }
            Some("53") => unavailable("database-exhausted", "the database is out of resources"),
            Some("57" | "08") => unavailable("database-unavailable", "the database is restarting"),
            _ => Problem::internal("the database refused the statement"),
        },
    }
}

/// What is known of when to try again, in whole seconds.
fn whole_seconds(hint: Option<Duration>) -> u32 {
    let seconds = hint.unwrap_or_default().as_secs_f64().ceil() as u32;
    seconds.max(RETRY_AFTER)
}

fn of_deadline(waited: Duration, sent: bool, outcome: &str) -> Problem {
    let seconds = waited.as_secs_f64();
    if sent {
        return Problem::gateway_timeout(format!("the database did not answer within {seconds:.2} s{outcome}"));
    }
    let detail = format!("waited {seconds:.2} s for the database; nothing was sent");
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Problem::unavailable("pool-timeout", detail, RETRY_AFTER).member("waited_ms", Member::Number(waited))
}

/// No connection was to be had: say why, in numbers.
fn of_acquire(refused: &AcquireError) -> Problem {
    let pool = refused.snapshot();
    let (slug, mut detail) = match refused.reason() {
        Reason::Timeout { waited, .. } => {
            let seconds = waited.as_secs_f64();
            (
                "pool-timeout",
                format!("waited {seconds:.2} s for a database connection"),
            )
        }
        Reason::Overloaded => (
            "pool-overloaded",
            "too many requests are waiting for a database connection".to_owned(),
        ),
        Reason::Unavailable => (
            "database-unavailable",
            "the database has been out of reach for a while".to_owned(),
        ),
        Reason::Permanent => (
            "database-unavailable",
            "the database cannot be used until someone changes something".to_owned(),
        ),
        Reason::Closed => {
            return Problem::unavailable("shutting-down", "the service is ending", RETRY_AFTER);
        }
    };
    detail += &format!(
        ": {} of {} in use, {} idle, {} connecting, {} waiting",
        pool.in_use, pool.capacity, pool.idle, pool.connecting, pool.waiting
    );
    let last_error = pool.last_connect_error.as_deref().map(summarize);
    let counts = [
        ("in_use", pool.in_use),
        ("idle", pool.idle),
        ("connecting", pool.connecting),
        ("waiting", pool.waiting),
    ];
    if let Some(error) = last_error {
        detail += &format!("; last connect error: {error}");
    }
    let mut problem = Problem::unavailable(slug, detail, whole_seconds(refused.retry_after()));
    if let Reason::Timeout { waited, .. } = refused.reason() {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        problem = problem.member("waited_ms", Member::Number(waited));
    }
    for (name, count) in counts {
        problem = problem.member(name, Member::Number(count.into()));
    }
    match last_error {
        Some(error) => problem.member("last_connect_error", Member::Text(error.into())),
        None => problem,
    }
}
