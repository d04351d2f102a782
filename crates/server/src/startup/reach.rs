//! Waits for the database at the start.
//!
//! Invariant: the log names the address at once, and the cause of the wait every few seconds. A permanent error ends the
//! wait at once.

use std::time::Duration;

use cenote_postgres::{AcquireError, Config, Error, Pool, Reason, tokio_postgres::config::Host};
use tokio::time::{Instant, sleep};

use crate::{
    health::HealthMonitor,
    store::schema::{MigrateError, Waiting},
};

/// Time before the first log message about the wait, and between further ones.
const SAY_FIRST: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// Pause between attempts while the pool refuses callers at once.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Logs the addresses of the database.
pub(super) fn announce(config: &Config) {
    let server = &config.server;
    let ports = server.get_ports();
    let host = |(at, host): (usize, &Host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    };
    let mut hosts: Vec<_> = server.get_hosts().iter().enumerate().map(host).collect();
    if hosts.is_empty() {
        hosts.extend(server.get_hostaddrs().iter().map(ToString::to_string));
    }
    let (user, database) = (server.get_user(), server.get_dbname());
    tracing::info!(user, database, "connecting to PostgreSQL at {}", hosts.join(", "));
}

/// Why a command cannot use its database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A permanent error.
    #[error(transparent)]
    Never(Error),
    #[error("not reached within {} s: {} ({})", .waited.as_secs(), cause(.last), .last.snapshot())]
    Late { waited: Duration, last: AcquireError },
    #[error(transparent)]
    Schema(#[from] MigrateError),
}

impl Unusable {
    /// Whether a retry cannot succeed before an operator has removed the cause.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Never(_) => true,
            Self::Late { .. } => false,
            Self::Schema(error) => error.is_permanent(),
        }
    }

    /// Returns the text for `/health`, if it holds no address.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Schema(error @ (MigrateError::Standby { .. } | MigrateError::Locked(_))) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// Waits until the pool has a connection.
///
/// # Errors
///
/// A permanent error, at once; any other at the deadline, if there is one.
pub(crate) async fn reach(pool: &Pool, deadline: Option<Instant>) -> Result<(), Unusable> {
    let started = Instant::now();
    let mut say_next = started + SAY_FIRST;
    loop {
        let until = deadline.map_or(say_next, |deadline| deadline.min(say_next));
        let error = match pool.get_within(until - Instant::now()).await {
            Ok(_connection) => return Ok(()),
            Err(Error::Acquire(error)) => error,
            Err(other) => return Err(Unusable::Never(other)),
        };
        let now = Instant::now();
        if !error.is_retryable() {
            return Err(Unusable::Never(error.into()));
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            let waited = now - started;
            return Err(Unusable::Late { waited, last: error });
        }
        if now >= say_next {
            let seconds = (now - started).as_secs();
            tracing::warn!(seconds, "waiting for the database: {}", cause(&error));
            say_next = now + SAY_AGAIN;
        }
        // The pool refused the call without waiting.
        if !matches!(error.reason(), Reason::Timeout { .. }) {
            sleep(TRY_AGAIN).await;
        }
    }
}

/// Returns the cause, without the counts of the pool.
fn cause(error: &AcquireError) -> String {
    match &error.snapshot().last_connect_error {
        Some(cause) => cause.to_string(),
        None => "it does not answer yet".to_owned(),
    }
}

/// Reports the wait in the log.
pub(super) struct InLog;

impl Waiting for InLog {
    fn on(&self, what: Option<(&str, Duration)>) {
        if let Some((what, waited)) = what {
            tracing::warn!(seconds = waited.as_secs(), "waiting: {what}");
        }
    }
}

/// Reports the wait in the log and in `/health`.
pub(super) struct InLogAndHealth<'a>(pub(super) &'a HealthMonitor);

impl Waiting for InLogAndHealth<'_> {
    fn on(&self, what: Option<(&str, Duration)>) {
        InLog.on(what);
        self.0.waits_for(what.map(|(what, _)| what.to_owned()));
    }
}
