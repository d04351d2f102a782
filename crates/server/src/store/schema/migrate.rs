//! Adds what is missing. Invariant: all of it happens in one transaction, which also holds the lock, so that neither a
//! killed process nor a pooler of connections can leave anything behind.

use std::{error::Error as _, fmt, time::Duration};

use cenote_postgres::{
    AcquireError, Pool, Pooled,
    tokio_postgres::{self, Client, GenericClient, IsolationLevel, error::SqlState},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    catalog::Catalog,
    plan::{Incompatible, Step, Work, plan},
};
use crate::{
    settings::SchemaName,
    store::{
        email,
        requirements::{self, Findings},
    },
};

/// Names the advisory lock under which the schema is changed: "cenote" in ASCII.
const LOCK: i64 = 0x6365_6e6f_7465;

const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_xact_lock($1)";

/// Who holds the advisory lock. A key of 64 bits is kept in halves.
const LOCK_HOLDER: &str = "SELECT l.pid, a.application_name FROM pg_catalog.pg_locks l \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
     AND l.classid::bigint = $1::bigint >> 32 AND l.objid::bigint = $1::bigint & 4294967295 \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) LIMIT 1";

/// Who has locked one of the tables, for the longest time.
const TABLE_HOLDER: &str = "SELECT l.pid, a.application_name FROM pg_catalog.pg_locks l \
     JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     WHERE n.nspname = $1 AND l.granted AND l.pid <> pg_catalog.pg_backend_pid() \
     ORDER BY a.xact_start LIMIT 1";

/// What a session or a database may have set must not end the migration. What waits for a table's lock keeps all
/// behind it from the table, so that is given up soon and tried again.
const SETTINGS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1s'; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

/// What is waited for then.
const LOCKED: &str = "tables are locked";

/// Pause between looks whether a lock is free.
const LOOK: Duration = Duration::from_millis(250);
/// When it is said first that something is waited for, and how often again.
const SAY_FIRST: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// Longest time for looking into the catalog.
const LOOKING: Duration = Duration::from_secs(10);

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error("cannot look into the database's catalog: {}", words(.0))]
    Catalog(tokio_postgres::Error),
    #[error("the database did not answer a look into its catalog within {} s", LOOKING.as_secs())]
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
    #[error("cannot add {what} to the schema {schema}: {}{}", words(.cause), hint(.cause))]
    Step {
        schema: SchemaName,
        what: String,
        cause: tokio_postgres::Error,
    },
    /// Settings or rules with which the service would answer wrongly.
    #[error("{}", .0.join("; "))]
    Unsuitable(Findings),
    #[error("another session holds a lock that is needed to change the schema: {0}")]
    Locked(Holder),
}

/// The database's own words, without the values that a detail quotes.
fn words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(refused), _) => refused.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// What to do about it.
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
    /// True if trying again cannot help until someone does something about it.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Acquire(error) => !error.is_retryable(),
            Self::Incompatible { .. } | Self::Missing { .. } | Self::Unsuitable(_) => true,
            Self::Silent | Self::Standby { .. } | Self::Locked(_) => false,
            Self::Catalog(error) | Self::Step { cause: error, .. } => {
                error.code().is_some_and(|code| !is_passing(code.code()))
            }
        }
    }
}

/// Resources, operator, connection, locks: what a migration may meet while the server restarts or others are at it.
fn is_passing(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "55" | "57"))
}

/// The session that holds a lock, as far as this role may see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder(Option<(i32, Option<String>)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, Some(name))) if !name.is_empty() => {
                write!(f, "process {pid}, application_name {name:?}")
            }
            Some((pid, _)) => write!(f, "process {pid}"),
            None => f.write_str("it is gone by now"),
        }
    }
}

/// Is told what is waited for, and for how long by now; `None` when that is over.
pub(crate) trait Waiting: Sync {
    /// Says it in the log and wherever else it is looked for.
    fn on(&self, what: Option<(&str, Duration)>);
}

/// What the service needs, and where.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    pub(crate) schema: SchemaName,
    /// Whether the triggers of the change feed are needed. Where they are not, they are left as they are, for another
    /// instance may need them.
    pub(crate) with_feed: bool,
}

impl Migration {
    /// Names what is missing; changes nothing.
    pub(crate) async fn missing(&self, pool: &Pool) -> Result<Vec<String>, MigrateError> {
        let mut connection = connection(pool).await?;
        let steps = self.look(connection.client_mut()).await?.0;
        Ok(steps.into_iter().map(|step| step.what).collect())
    }

    /// Fails unless nothing is missing.
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

    /// Adds what is missing and names it. Waits for locks of others at most until the deadline, if there is one.
    ///
    /// # Cancel safety
    ///
    /// The transaction is rolled back.
    pub(crate) async fn run(
        &self,
        pool: &Pool,
        waiting: &dyn Waiting,
        deadline: Option<Instant>,
    ) -> Result<Vec<String>, MigrateError> {
        let mut wait = Wait {
            waiting,
            since: Instant::now(),
            say_next: SAY_FIRST,
            deadline,
        };
        // One for all: where there are few, a second might not be free while the first is cleaned.
        let mut connection = connection(pool).await?;
        let client = connection.client_mut();
        let (steps, is_standby) = loop {
            match self.look(client).await {
                Err(MigrateError::Catalog(cause)) if is_locked(&cause) => {
                    let schema = self.schema.as_str();
                    let holder = holder(client, TABLE_HOLDER, &schema).await;
                    wait.again(holder, LOCKED).await?;
                }
                looked => break looked?,
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

    /// What is missing, and whether the server is a standby.
    async fn look(&self, client: &mut Client) -> Result<(Vec<Step>, bool), MigrateError> {
        let read = async {
            // In one snapshot: half of what another instance is just adding would look like something foreign.
            let begun = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true);
            let transaction = begun.start().await?;
            // Even the catalog's description of an index waits for who has locked its table.
            transaction.batch_execute("SET LOCAL lock_timeout = '1s'").await?;
            let wrong = [
                requirements::session(&transaction).await?,
                requirements::tables(&transaction, &self.schema).await?,
            ]
            .concat();
            let catalog = Catalog::read(&transaction, &self.schema).await?;
            transaction.commit().await?;
            Ok::<_, tokio_postgres::Error>((wrong, catalog))
        };
        let found = timeout(LOOKING, read).await;
        let found = found.map_err(|_| MigrateError::Silent)?;
        let (wrong, catalog) = found.map_err(MigrateError::Catalog)?;
        if !wrong.is_empty() {
            return Err(MigrateError::Unsuitable(wrong));
        }
        Ok((self.plan(&catalog)?, catalog.is_standby))
    }

    fn plan(&self, catalog: &Catalog) -> Result<Vec<Step>, MigrateError> {
        let steps = plan(catalog, &self.schema, self.with_feed);
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
        // With an older snapshot, what another instance has just added would not be seen.
        let begun = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted);
        let transaction = begun.start().await.map_err(failed(anything))?;
        let set = transaction.batch_execute(SETTINGS).await;
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
        let catalog = Catalog::read(&transaction, &self.schema).await;
        let steps = self.plan(&catalog.map_err(MigrateError::Catalog)?)?;
        for Step { what, work } in &steps {
            let added = match work {
                Work::Sql(sql) => transaction.batch_execute(sql).await,
                Work::EmailIndex => email::prepare(&transaction, &self.schema).await.map(warn_of_twins),
            };
            added.map_err(failed(what))?;
        }
        transaction.commit().await.map_err(failed(anything))?;
        Ok(steps.into_iter().map(|step| step.what).collect())
    }
}

fn warn_of_twins(users: u64) {
    if users > 0 {
        tracing::warn!(
            users,
            "some users have an e-mail address that an older user has too; they stay, and no address is compared with \
             theirs"
        );
    }
}

/// A connection. Even where nobody is to wait for one later, one must have the chance to be opened or cleaned.
async fn connection(pool: &Pool) -> Result<Pooled<'_>, AcquireError> {
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

/// Who holds a lock; nobody if that cannot be told.
async fn holder(client: &impl GenericClient, sql: &str, of: &(dyn tokio_postgres::types::ToSql + Sync)) -> Holder {
    let row = client.query_opt(sql, &[of]).await.ok().flatten();
    Holder(row.map(|row| (row.get(0), row.get(1))))
}

/// The wait for locks of others.
struct Wait<'a> {
    waiting: &'a dyn Waiting,
    since: Instant,
    say_next: Duration,
    deadline: Option<Instant>,
}

impl Wait<'_> {
    /// Says what is waited for if it is time to, and pauses.
    async fn again(&mut self, holder: Holder, what: &str) -> Result<(), MigrateError> {
        let waited = self.since.elapsed();
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(MigrateError::Locked(holder));
        }
        if waited >= self.say_next {
            self.say_next = waited + SAY_AGAIN;
            self.waiting.on(Some((&format!("{what}: {holder}"), waited)));
        }
        sleep(LOOK).await;
        Ok(())
    }
}
