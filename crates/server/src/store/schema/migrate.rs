//! Adds what is missing in the schema.
//!
//! Invariant: everything happens in one transaction, which also holds the advisory lock. So neither a killed process nor a
//! connection pooler can leave a lock or a part of the schema behind.

use std::{error::Error as _, fmt, time::Duration};

use cenote_postgres::{
    Error, Pool, Pooled,
    tokio_postgres::{self, Client, GenericClient, IsolationLevel, error::SqlState},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    catalog::Catalog,
    plan::{self, Extras, Incompatible, Step, Work},
};
use crate::{
    store::SchemaName,
    store::{
        requirements::{self, Findings},
        users::email_key,
    },
};

/// The key of the advisory lock under which the schema is changed: "cenote" in ASCII.
const LOCK: i64 = 0x6365_6e6f_7465;

const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_xact_lock($1)";

/// The session that holds the advisory lock. `pg_locks` splits the 64-bit key into `classid` (high) and `objid` (low);
/// `objsubid = 1` marks such a key.
const LOCK_HOLDER: &str = "SELECT l.pid, a.application_name FROM pg_catalog.pg_locks l \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
     AND l.classid::bigint = $1::bigint >> 32 AND l.objid::bigint = $1::bigint & 4294967295 \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) LIMIT 1";

/// The session whose transaction has locked one of the tables for the longest time.
const TABLE_HOLDER: &str = "SELECT l.pid, a.application_name FROM pg_catalog.pg_locks l \
     JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     WHERE n.nspname = $1 AND l.granted AND l.pid <> pg_catalog.pg_backend_pid() \
     ORDER BY a.xact_start LIMIT 1";

/// Timeouts of the session or the database must not end the migration. `lock_timeout`: a statement that waits for a table's
/// lock blocks every later user of the table, so it gives up after a second and is tried again.
const TIMEOUTS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1s'; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

/// What a migration waits for when a statement gave up on a lock.
const LOCKED: &str = "tables are locked";

/// The pause between attempts to take a lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// When a wait is reported first, and how often after that.
const FIRST_REPORT: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for reading the catalog.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error(transparent)]
    Acquire(#[from] Error),
    #[error("cannot read the database's catalog: {}", message(.0))]
    Catalog(tokio_postgres::Error),
    #[error("the database did not answer a query of its catalog within {} s", CATALOG_TIMEOUT.as_secs())]
    Silent,
    #[error(
        "the schema {schema} cannot be used: {problem}; change that, or set DB_SCHEMA to another schema for the \
         service's own tables"
    )]
    Incompatible { schema: SchemaName, problem: Incompatible },
    #[error("the schema {schema} lacks {missing}; run `cenote migrate` as a role that may add it, or set MIGRATE=auto")]
    Missing { schema: SchemaName, missing: String },
    #[error(
        "the schema {schema} lacks {missing}, and this database is a standby, which gets it from its primary; run \
         `cenote migrate` there"
    )]
    Standby { schema: SchemaName, missing: String },
    #[error("cannot add {what} to the schema {schema}: {}{}", message(.cause), hint(.cause))]
    Step {
        schema: SchemaName,
        what: String,
        cause: tokio_postgres::Error,
    },
    /// Settings or rules with which responses would be wrong, or writes would stall.
    #[error("{}", .0.join("; "))]
    Unsuitable(Findings),
    #[error("another session holds a lock that is needed to change the schema: {0}")]
    Locked(Holder),
}

/// Returns PostgreSQL's message without its detail, which may quote values.
fn message(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refused), _) => refused.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Returns what an operator can do about the error.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    match error.code().map(SqlState::code) {
        Some("42501") => {
            "; run `cenote migrate` once as a role that may, such as the owner, or let DB_SCHEMA name a schema in which \
             this role may create tables"
        }
        Some("25006") => "; run `cenote migrate` as a role and on a server that may write",
        Some("23505") => "; several rows have the same value there: remove all but one",
        Some("23502") => "; give these rows a value",
        _ => "",
    }
}

impl MigrateError {
    /// Whether retrying cannot help until an operator changes something.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Acquire(error) => error.acquire_error().is_none_or(|error| !error.is_retryable()),
            Self::Incompatible { .. } | Self::Missing { .. } | Self::Unsuitable(_) => true,
            Self::Silent | Self::Standby { .. } | Self::Locked(_) => false,
            Self::Catalog(error) | Self::Step { cause: error, .. } => {
                error.code().is_some_and(|code| !is_transient(code.code()))
            }
        }
    }
}

/// Whether an error passes by itself: connections, transactions, resources, locks, restarts.
fn is_transient(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "55" | "57"))
}

/// The session that holds a lock, as far as this role may see it. Empty if nobody holds the lock any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder(Option<(i32, Option<String>)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, Some(name))) if !name.is_empty() => {
                write!(f, "process {pid}, application_name {name:?}")
            }
            Some((pid, _)) => write!(f, "process {pid}"),
            None => f.write_str("it has ended by now"),
        }
    }
}

/// Receives reports of what a migration waits for.
pub(crate) trait Waiting: Sync {
    /// Reports what the migration waits for and for how long so far; `None` when the wait is over.
    fn on(&self, what: Option<(&str, Duration)>);
}

/// What the service needs, and in which schema.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    pub(crate) schema: SchemaName,
    pub(crate) extras: Extras,
}

impl Migration {
    /// Returns the names of what is missing. Changes nothing.
    pub(crate) async fn missing(&self, pool: &Pool) -> Result<Vec<String>, MigrateError> {
        let mut connection = connection(pool).await?;
        let steps = self.inspect(connection.client_mut()).await?.0;
        Ok(steps.into_iter().map(|step| step.what).collect())
    }

    /// Fails if anything is missing. Changes nothing.
    pub(crate) async fn check(&self, pool: &Pool) -> Result<(), MigrateError> {
        let missing = self.missing(pool).await?;
        match missing.is_empty() {
            true => Ok(()),
            false => Err(MigrateError::Missing {
                schema: self.schema.clone(),
                missing: missing.join(", "),
            }),
        }
    }

    /// Adds what is missing and returns its names. Waits for other sessions' locks until the deadline, if there is one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the transaction is rolled back.
    pub(crate) async fn run(
        &self,
        pool: &Pool,
        waiting: &dyn Waiting,
        deadline: Option<Instant>,
    ) -> Result<Vec<String>, MigrateError> {
        let mut wait = Wait {
            waiting,
            since: Instant::now(),
            next_report: FIRST_REPORT,
            deadline,
        };
        // One connection for everything: a small pool may have no second one while the first is being cleaned.
        let mut connection = connection(pool).await?;
        let client = connection.client_mut();
        let (steps, is_standby) = loop {
            match self.inspect(client).await {
                Err(MigrateError::Catalog(cause)) if is_locked(&cause) => {
                    let schema = self.schema.as_str();
                    let holder = holder(client, TABLE_HOLDER, &schema).await;
                    wait.again(holder, LOCKED).await?;
                }
                inspected => break inspected?,
            }
        };
        if steps.is_empty() {
            waiting.on(None);
            return Ok(Vec::new());
        }
        if is_standby {
            return Err(MigrateError::Standby {
                schema: self.schema.clone(),
                missing: named(&steps),
            });
        }
        let done = loop {
            match self.apply(client, &mut wait).await {
                Err(MigrateError::Step { cause, .. } | MigrateError::Catalog(cause)) if is_locked(&cause) => {
                    let holder = holder(client, TABLE_HOLDER, &self.schema.as_str()).await;
                    wait.again(holder, LOCKED).await?;
                }
                done => break done,
            }
        };
        waiting.on(None);
        done
    }

    /// Returns the steps that are missing, and whether the server is a standby.
    async fn inspect(&self, client: &mut Client) -> Result<(Vec<Step>, bool), MigrateError> {
        let read = async {
            // In one snapshot: a half-finished migration of another instance would look like a foreign table.
            let begun = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true);
            let transaction = begun.start().await?;
            // `pg_get_indexdef` waits if another session has locked the table.
            transaction.batch_execute("SET LOCAL lock_timeout = '1s'").await?;
            let wrong = [
                requirements::session(&transaction).await?,
                requirements::tables(&transaction, &self.schema).await?,
            ]
            .concat();
            let catalog = Catalog::read(&transaction, &self.schema, &plan::table_names()).await?;
            transaction.commit().await?;
            Ok::<_, tokio_postgres::Error>((wrong, catalog))
        };
        let found = timeout(CATALOG_TIMEOUT, read).await;
        let found = found.map_err(|_| MigrateError::Silent)?;
        let (wrong, catalog) = found.map_err(MigrateError::Catalog)?;
        if !wrong.is_empty() {
            return Err(MigrateError::Unsuitable(wrong));
        }
        Ok((self.plan(&catalog)?, catalog.is_standby))
    }

    fn plan(&self, catalog: &Catalog) -> Result<Vec<Step>, MigrateError> {
        let steps = plan::plan(catalog, &self.schema, self.extras);
        steps.map_err(|problem| MigrateError::Incompatible {
            schema: self.schema.clone(),
            problem,
        })
    }

    async fn apply(&self, client: &mut Client, wait: &mut Wait<'_>) -> Result<Vec<String>, MigrateError> {
        let failed = |what: &str| {
            let (schema, what) = (self.schema.clone(), what.to_owned());
            move |cause| MigrateError::Step { schema, what, cause }
        };
        let anything = "what is missing";
        // Not repeatable read: its snapshot would miss what another instance adds while this one waits for the lock.
        let begun = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted);
        let transaction = begun.start().await.map_err(failed(anything))?;
        let set = transaction.batch_execute(TIMEOUTS).await;
        set.map_err(failed(anything))?;
        loop {
            let locked = transaction.query_one(TRY_LOCK, &[&LOCK]).await;
            if locked.map_err(failed(anything))?.get(0) {
                break;
            }
            let holder = holder(&transaction, LOCK_HOLDER, &LOCK).await;
            wait.again(holder, "the schema is being changed by another session")
                .await?;
        }
        let catalog = Catalog::read(&transaction, &self.schema, &plan::table_names()).await;
        let steps = self.plan(&catalog.map_err(MigrateError::Catalog)?)?;
        for Step { what, work } in &steps {
            let added = match work {
                Work::Sql(sql) => transaction.batch_execute(sql).await,
                Work::EmailIndex => email_key::prepare(&transaction, &self.schema)
                    .await
                    .map(warn_of_duplicates),
            };
            added.map_err(failed(what))?;
        }
        transaction.commit().await.map_err(failed(anything))?;
        Ok(steps.into_iter().map(|step| step.what).collect())
    }
}

fn warn_of_duplicates(users: u64) {
    if users > 0 {
        tracing::warn!(
            users,
            "some users have the e-mail address of an older user; they stay, and new addresses are not compared with \
             theirs"
        );
    }
}

/// Acquires a connection. It waits long enough to open one, even if the service itself waits for less or not at all.
async fn connection(pool: &Pool) -> Result<Pooled<'_>, Error> {
    let limits = &pool.config().pool;
    let patience = limits.acquire_timeout.max(limits.connect_timeout);
    pool.get_within(patience).await
}

fn is_locked(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn named(steps: &[Step]) -> String {
    let named: Vec<_> = steps.iter().map(|step| &*step.what).collect();
    named.join(", ")
}

/// Returns the session that holds a lock; an empty [`Holder`] if the query fails or finds none.
async fn holder(client: &impl GenericClient, sql: &str, of: &(dyn tokio_postgres::types::ToSql + Sync)) -> Holder {
    let row = client.query_opt(sql, &[of]).await.ok().flatten();
    Holder(row.map(|row| (row.get(0), row.get(1))))
}

/// A wait for other sessions' locks.
struct Wait<'a> {
    waiting: &'a dyn Waiting,
    since: Instant,
    next_report: Duration,
    deadline: Option<Instant>,
}

impl Wait<'_> {
    /// Reports what is waited for if a report is due, then pauses.
    async fn again(&mut self, holder: Holder, what: &str) -> Result<(), MigrateError> {
        let waited = self.since.elapsed();
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(MigrateError::Locked(holder));
        }
        if waited >= self.next_report {
            self.next_report = waited + REPORT_INTERVAL;
            self.waiting.on(Some((&format!("{what}: {holder}"), waited)));
        }
        sleep(RETRY_INTERVAL).await;
        Ok(())
    }
}
