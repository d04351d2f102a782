//! The schema and its migrations. Invariant: however many instances start at once, each migration runs once.

use std::time::Duration;

use cenote_postgres::{AcquireError, Chain, ConnectError, Pool, Pooled, Reason, tokio_postgres};

use super::{
    email,
    feed::INSTALL,
    requirements::{self, Findings},
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Names the advisory lock under which migrations run: "cenote" in ASCII.
const LOCK: i64 = 0x6365_6e6f_7465;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error("cannot wait for other instances to migrate: {}", Chain(.0))]
    Lock(tokio_postgres::Error),
    #[error("cannot add the triggers of the change feed: {}", Chain(.0))]
    Feed(tokio_postgres::Error),
    #[error("cannot compare e-mail addresses: {}", Chain(.0))]
    Emails(tokio_postgres::Error),
    #[error("cannot ask for the database's settings: {}", Chain(.0))]
    Settings(tokio_postgres::Error),
    #[error("{}", .0.join("; "))]
    Unsuitable(Findings),
    #[error("{}", Chain(.0))]
    Migration(refinery::Error),
}

impl From<refinery::Error> for MigrateError {
    fn from(error: refinery::Error) -> Self {
        Self::Migration(error)
    }
}

impl MigrateError {
    /// True if trying again cannot help until someone does something about it.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Acquire(error) => is_in_vain(error),
            Self::Lock(_) => false,
            Self::Unsuitable(_) => true,
            Self::Feed(error) | Self::Emails(error) | Self::Settings(error) => {
                error.code().is_some_and(|code| !is_passing(code.code()))
            }
            // Lost connections end as errors of the driver; the rest is about the migrations.
            Self::Migration(error) => match error.kind() {
                refinery::error::Kind::Connection(_, cause) => cause
                    .downcast_ref::<tokio_postgres::Error>()
                    .and_then(tokio_postgres::Error::code)
                    .is_some_and(|code| !is_passing(code.code())),
                _ => true,
            },
        }
    }
}

/// How often the wait for the first connection is interrupted, to see whether it is in vain.
const LOOK: Duration = Duration::from_millis(500);

/// Takes a connection, waiting as long as the pool is told to, but not for a server that refuses for a reason which
/// time does not cure: a wrong password, a missing database.
pub(crate) async fn first_connection(pool: &Pool) -> Result<Pooled<'_>, AcquireError> {
    let mut left = pool.config().pool.acquire_timeout;
    loop {
        let within = LOOK.min(left);
        left -= within;
        match pool.get_within(within).await {
            Err(error) if left.is_zero() || is_in_vain(&error) => return Err(error),
            Err(error) => match error.reason() {
                Reason::Timeout { .. } => {}
                // It was not waited for, so the time has yet to pass.
                Reason::Unavailable => tokio::time::sleep(within).await,
                _ => return Err(error),
            },
            taken => return taken,
        }
    }
}

fn is_in_vain(error: &AcquireError) -> bool {
    let last = error.snapshot().last_connect_error.as_deref();
    matches!(last, Some(ConnectError::Failed(error)) if error.is_permanent())
}

/// Resources, operator, connection, locks: what a migration may meet while the server restarts or others are at it.
fn is_passing(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "55" | "57"))
}

fn refuse(wrong: Findings) -> Result<(), MigrateError> {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(MigrateError::Unsuitable(wrong)),
    }
}

/// What is done under the lock.
async fn migrate_with(
    client: &mut tokio_postgres::Client,
    with_feed: bool,
) -> Result<refinery::Report, MigrateError> {
    let applied = embedded::migrations::runner().run_async(client).await?;
    let apart = email::prepare(client).await.map_err(MigrateError::Emails)?;
    if apart > 0 {
        tracing::warn!(
            users = apart,
            "some users have an e-mail address that an older user has too; they stay, and no address is compared with theirs"
        );
    }
    if with_feed {
        let installed = client.batch_execute(INSTALL).await;
        installed.map_err(MigrateError::Feed)?;
    }
    let wrong = requirements::tables(client).await;
    refuse(wrong.map_err(MigrateError::Settings)?)?;
    Ok(applied)
}

/// Brings the schema up to date and names the migrations that were applied. The triggers of the change feed are added
/// `with_feed`; without, they are left as they are, for another instance may need them.
pub(crate) async fn migrate(pool: &Pool, with_feed: bool) -> Result<Vec<String>, MigrateError> {
    let mut connection = first_connection(pool).await?;
    let client = connection.client_mut();
    let wrong = requirements::session(client).await;
    refuse(wrong.map_err(MigrateError::Settings)?)?;
    let wait = format!(
        "SET statement_timeout = 0; SET lock_timeout = '60s'; SELECT pg_advisory_lock({LOCK})"
    );
    client
        .batch_execute(&wait)
        .await
        .map_err(MigrateError::Lock)?;
    let migrated = migrate_with(client, with_feed).await;
    // Ends the session and the lock with it, whatever happened.
    connection.discard();
    let applied = migrated?;
    let applied = applied.applied_migrations().iter();
    Ok(applied.map(ToString::to_string).collect())
}
