//! The wait for the database at the start. Invariant: it is said at once what is tried, and every few seconds what is
//! waited for; what will never work ends the wait at once.

use std::time::Duration;

use cenote_postgres::{AcquireError, Config, Pool, Reason, tokio_postgres::config::Host};
use tokio::time::{Instant, sleep};

use crate::{
    health::HealthMonitor,
    store::schema::{MigrateError, Waiting},
};

/// When it is said first that the database is waited for, and how often again.
const SAY_FIRST: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// Pause between tries while the pool refuses callers.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Says where the database is looked for.
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
    /// It will never work.
    #[error(transparent)]
    Never(AcquireError),
    #[error("not reached within {} s: {} ({})", .waited.as_secs(), cause(.last), .last.snapshot())]
    Late { waited: Duration, last: AcquireError },
    #[error(transparent)]
    Schema(#[from] MigrateError),
}

impl Unusable {
    /// True if trying again cannot help until someone does something about it.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Never(_) => true,
            Self::Late { .. } => false,
            Self::Schema(error) => error.is_permanent(),
        }
    }

    /// What `/health` may say of it: nothing that holds an address.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Schema(error @ (MigrateError::Standby { .. } | MigrateError::Locked(_))) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// Returns when there is a connection.
///
/// # Errors
///
/// What will never work, at once; anything else when the deadline has come, if there is one.
pub(crate) async fn reach(pool: &Pool, deadline: Option<Instant>) -> Result<(), Unusable> {
    let started = Instant::now();
    let mut say_next = started + SAY_FIRST;
    loop {
        let until = deadline.map_or(say_next, |deadline| deadline.min(say_next));
        let error = match pool.get_within(until - Instant::now()).await {
            Ok(_connection) => return Ok(()),
            Err(error) => error,
        };
        let now = Instant::now();
        if !error.is_retryable() {
            return Err(Unusable::Never(error));
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
        // Nothing was waited for.
        if !matches!(error.reason(), Reason::Timeout { .. }) {
            sleep(TRY_AGAIN).await;
        }
    }
}

/// Why there is no connection, without the pool's counts.
fn cause(error: &AcquireError) -> String {
    match &error.snapshot().last_connect_error {
        Some(cause) => cause.to_string(),
        None => "it does not answer yet".to_owned(),
    }
}

/// Says in the log what is waited for.
pub(super) struct InLog;

impl Waiting for InLog {
    fn on(&self, what: Option<(&str, Duration)>) {
        if let Some((what, waited)) = what {
            tracing::warn!(seconds = waited.as_secs(), "waiting: {what}");
        }
    }
}

/// Says it in the log and in `/health`.
pub(super) struct InLogAndHealth<'a>(pub(super) &'a HealthMonitor);

impl Waiting for InLogAndHealth<'_> {
    fn on(&self, what: Option<(&str, Duration)>) {
        InLog.on(what);
        self.0.waits_for(what.map(|(what, _)| what.to_owned()));
    }
}
