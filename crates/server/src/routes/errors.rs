//! Maps errors of the store to problems.
//!
//! Invariant: an unknown outcome is reported as unknown. No problem has an address, a name, a statement or PostgreSQL's own
//! message; those go to the log with the cause.

use std::time::Duration;

use cenote_cache::{NotFenced, Obstacle};
use cenote_postgres::{AcquireError, Error, Reason, summarize};

use crate::{
    http::{Member, Problem},
    response_memory::NoRoom,
    store::{WriteError, is_unrepresentable},
};

/// Seconds after which a caller should try again, where the pool gives no better estimate.
const RETRY_AFTER: u32 = 1;

/// Maps the failure of a statement that changes nothing.
pub(crate) fn of_read(error: Error) -> Problem {
    of(error, "")
}

/// Maps the failure of a write of a key.
pub(crate) fn of_key_write(error: WriteError) -> Problem {
    match error {
        WriteError::Database(error) => match of_value(&error, ["key", "value"], "key") {
            Some(problem) => problem,
            None => of_write(error),
        },
        WriteError::NotFenced(error) => of_not_fenced(error),
        WriteError::Standby => read_only().cause(error),
    }
}

/// Maps the failure of a delete of a key.
pub(crate) fn of_delete(error: WriteError) -> Problem {
    match error {
        WriteError::Database(error) if is_unrepresentable(&error) => {
            Problem::not_found("there is no value under this key")
        }
        error => of_key_write(error),
    }
}

/// Maps the failure to add a user.
pub(crate) fn of_new_user(error: Error) -> Problem {
    of_value(&error, ["name", "email"], "email").unwrap_or_else(|| of_write(error))
}

/// Returns the 422 for a value that the database cannot store, with the field it came in. `fields` are those of the
/// statement's first parameters; `indexed` is the field whose length an index bounds.
fn of_value(error: &Error, fields: [&'static str; 2], indexed: &'static str) -> Option<Problem> {
    let Error::Database(refused) = error else {
        return None;
    };
    let code = refused.code().code();
    let detail = match code {
        "22P05" | "22021" => "has a character that the database's encoding does not have",
        "22001" => "is longer than the database's column",
        "54000" => "is longer than the database's index takes",
        _ if matches!(code.get(..2), Some("22" | "54")) => "cannot be stored by the database",
        _ => return None,
    };
    // PostgreSQL says "unnamed portal parameter $2", translated into its own language.
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

/// Maps a claim of memory that was not granted in time.
pub(crate) fn of_no_room(NoRoom { waited }: NoRoom) -> Problem {
    let seconds = waited.as_secs_f64();
    let detail = format!("waited {seconds:.1} s for memory: clients do not read other large responses");
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Problem::unavailable("answers-waiting", detail, RETRY_AFTER).member("waited_ms", Member::Number(waited))
}

/// Maps a write that was not made, because its key could not be fenced in the cache.
fn of_not_fenced(NotFenced { waited, reason }: NotFenced) -> Problem {
    let seconds = waited.as_secs_f64();
    let why = match reason {
        Obstacle::Unreachable => "Redis did not answer",
        Obstacle::UnknownEpoch => "the database did not say which Redis is in use",
        Obstacle::UnreadableEpoch(cause) => {
            let detail = "nothing was written: the database cannot say which Redis is in use until an operator changes \
                          something; the log has the reason";
            let problem = Problem::unavailable("cache-unreachable", detail.to_owned(), RETRY_AFTER);
            return problem.member("waited_ms", Member::Number(0)).cause(cause);
        }
    };
    let detail = format!("nothing was written: {why} for {seconds:.1} s");
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Problem::unavailable("cache-unreachable", detail, RETRY_AFTER).member("waited_ms", Member::Number(waited))
}

/// Maps the failure of a statement that changes something.
fn of_write(error: Error) -> Problem {
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
            format!("{waiting} requests with {bytes} bytes are already waiting for the database"),
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

/// Returns the 503 for a database that accepts no writes.
fn read_only() -> Problem {
    let detail = "the database accepts no writes at the moment; reads are served";
    Problem::unavailable("read-only", detail.to_owned(), RETRY_AFTER)
}

/// Maps PostgreSQL's error code.
fn of_code(code: &str) -> Problem {
    let unavailable = |slug, detail| Problem::unavailable(slug, detail, RETRY_AFTER);
    match code {
        "57014" => Problem::gateway_timeout("the database stopped the statement"),
        "40001" | "40P01" | "55P03" => unavailable(
            "conflict-retries-exhausted",
            "too many callers change the same row at the same time",
        ),
        "42P01" | "42703" => unavailable("schema-not-ready", "the database schema is not ready"),
        "25006" => read_only(),
        "42501" => unavailable("schema-not-ready", "the database role lacks a privilege on the tables"),
        _ => match code.get(..2) {
            Some("22" | "54") => Problem::unprocessable().field("", "cannot be stored by the database"),
            // Not a unique violation: only an id sequence behind its table causes one here, which no client can repair.
            Some("23" | "P0") if code != "23505" => {
                Problem::unprocessable().field("", "is refused by a rule that was added to the database")
            }
            Some("53") => unavailable("database-exhausted", "the database is out of resources"),
            Some("57" | "08") => unavailable("database-unavailable", "the database is restarting"),
            _ => Problem::internal("the database refused the statement"),
        },
    }
}

/// Rounds the pool's estimate up to whole seconds.
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

/// Maps a connection that could not be acquired, with the pool's counts.
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
            "the database has been unreachable for a while".to_owned(),
        ),
        Reason::Permanent => (
            "database-unavailable",
            "the database cannot be used until an operator changes something".to_owned(),
        ),
        Reason::Closed => {
            return Problem::unavailable("shutting-down", "the service is shutting down", RETRY_AFTER);
        }
        // Not with this service's pool, which has no hooks.
        _ => (
            "database-unavailable",
            "no database connection could be used".to_owned(),
        ),
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
