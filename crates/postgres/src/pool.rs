//! The PostgreSQL pool.
//!
//! Invariant: it only wraps the generic pool and adds what only a database has, such as transactions and retries.

use std::{collections::BTreeMap, panic::Location, sync::Arc, time::Duration};

use cenote_pool::{ConnectError, ConnectionInfo, Holder};
use futures_util::TryFutureExt;
use tokio::runtime::Handle;

use crate::{
    AcquireError, Config, ConnectionError, Error, Histogram, Hooks, InvalidConfig, OwnedPooled, Pooled, Postgres,
    Result, StatementStats, Transaction, TransactionOptions,
    connection_error::summarize,
    session::{hook_adapter::for_pool, transaction::ConnectionRef},
};

/// A pool of connections to one PostgreSQL database. A clone is another handle to the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) inner: cenote_pool::Pool<Postgres>,
    /// The command timeout of what this handle hands out, if not that of the configuration.
    within: Option<Option<Duration>>,
}

/// Statistics of a [`Pool`] at one moment. Counters count from its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Connections, callers and times of the generic pool.
    pub pool: cenote_pool::Stats,
    /// Commands that were sent, including failed ones.
    pub queries: u64,
    /// Commands that failed.
    pub errors: u64,
    /// The failed ones among them, by the class of their SQLSTATE: its first two characters, `other` for a class that
    /// PostgreSQL's documentation does not have, `none` for errors without one, such as a lost connection. Without classes
    /// that have none.
    pub errors_by_class: Vec<(&'static str, u64)>,
    /// Commands that took longer than the command timeout.
    pub timeouts: u64,
    /// Commands that took at least [`Config::slow_query`].
    pub slow: u64,
    /// How long commands took until they were answered or failed. Of streams and copies: until they began.
    pub durations: Histogram,
    /// The same by statement. Without statements that were never run.
    pub statements: Vec<StatementStats>,
    /// Why the last connect failed, as a short text without addresses or names; `None` after a success. See
    /// [`summarize`](crate::summarize).
    pub last_connect_error: Option<&'static str>,
}

impl Pool {
    /// Creates a pool and starts to connect in the background.
    ///
    /// It does not wait for the database. Use [`health`](Self::health) or [`get`](Self::get) to learn whether the
    /// database can be reached.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself, asks for an unsupported feature, or names a certificate that cannot be
    /// used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(config: Config) -> std::result::Result<Self, InvalidConfig> {
        Self::on_runtimes(config, vec![Handle::current()])
    }

    /// Like [`new`](Self::new), with functions that run at the turns of a connection's life.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_hooks(config: Config, hooks: Hooks) -> std::result::Result<Self, InvalidConfig> {
        Self::start(config, hooks, vec![Handle::current()])
    }

    /// Like [`new`](Self::new), with connections on these runtimes. See [`cenote_pool::Pool::on_runtimes`].
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), or `runtimes` is empty.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn on_runtimes(config: Config, runtimes: Vec<Handle>) -> std::result::Result<Self, InvalidConfig> {
        Self::start(config, Hooks::default(), runtimes)
    }

    fn start(mut config: Config, hooks: Hooks, runtimes: Vec<Handle>) -> std::result::Result<Self, InvalidConfig> {
        if config.server.get_application_name().is_none() {
            config.server.application_name("cenote");
        }
        let (limits, adapted) = (config.pool.clone(), for_pool(&hooks, config.command_timeout));
        let manager = Postgres::new(config, hooks)?;
        let inner = cenote_pool::Pool::with_hooks_on(manager, limits, adapted, runtimes)?;
        Ok(Self { inner, within: None })
    }

    /// Returns a handle for each runtime, for callers on that runtime. See [`cenote_pool::Pool::per_runtime`].
    pub fn per_runtime(&self) -> impl Iterator<Item = Self> + '_ {
        let within = self.within;
        self.inner.per_runtime().map(move |inner| Self { inner, within })
    }

    /// Returns a handle to the same pool whose callers get this command timeout instead of that of the configuration. `None`:
    /// no limit.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let reports = pool.within(Some(Duration::from_secs(120)));
    /// let row = reports.query_one("SELECT sum(price) FROM orders", &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn within(&self, limit: Option<Duration>) -> Self {
        Self {
            within: Some(limit),
            ..self.clone()
        }
    }

    /// Acquires a connection. Waits in the queue for at most the pool's `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::Acquire`]: the time is over, too many callers wait, connects fail, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped future leaves the queue.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<'_>>> + Send {
        lent(self.within, self.inner.get()).map_err(Error::from)
    }

    /// Like [`get`](Self::get), with this timeout instead of `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[track_caller]
    pub fn get_within(&self, limit: Duration) -> impl Future<Output = Result<Pooled<'_>>> + Send {
        self.acquire_within(limit).map_err(Error::from)
    }

    /// Like [`get`](Self::get), with a connection that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(&self) -> impl Future<Output = Result<OwnedPooled>> + Send + use<> {
        lent(self.within, self.inner.get_owned()).map_err(Error::from)
    }

    /// Takes an idle connection without waiting, and without asking the server whether it still answers. `None` if none is
    /// idle, and while [`Hooks::before_acquire`] is set, because that may wait.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_>> {
        let connection = self.inner.try_get()?;
        if let Some(limit) = self.within {
            connection.set_command_timeout(limit);
        }
        Some(connection)
    }

    /// Like [`get_within`](Self::get_within), with the error of acquiring alone.
    #[track_caller]
    pub(crate) fn acquire_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        lent(self.within, self.inner.get_within(limit))
    }

    /// Like [`get`](Self::get), with this line as the holder.
    pub(crate) fn get_at(&self, holder: &'static Location<'static>) -> impl Future<Output = Result<Pooled<'_>>> + Send {
        let limit = self.config().pool.acquire_timeout;
        lent(self.within, self.inner.get_at(holder, limit)).map_err(Error::from)
    }

    /// Like [`get_owned`](Self::get_owned), with this line as the holder.
    pub(crate) fn get_owned_at(
        &self,
        holder: &'static Location<'static>,
    ) -> impl Future<Output = Result<OwnedPooled>> + Send + use<> {
        lent(self.within, self.inner.get_owned_at(holder)).map_err(Error::from)
    }

    /// Acquires a connection and begins a transaction on it. The transaction is rolled back unless it is committed; its
    /// end returns the connection.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), then see [`Error`].
    pub async fn begin(&self) -> Result<Transaction<'static>> {
        self.begin_with(TransactionOptions::default()).await
    }

    /// Like [`begin`](Self::begin), with explicit transaction options.
    ///
    /// # Errors
    ///
    /// Those of [`begin`](Self::begin).
    pub async fn begin_with(&self, options: TransactionOptions) -> Result<Transaction<'static>> {
        let connection = self.get_owned().await?;
        Transaction::begin(ConnectionRef::Owned(connection), options).await
    }

    /// Returns statistics.
    pub fn stats(&self) -> Stats {
        let metrics = self.inner.manager().metrics();
        let statements = metrics.statements();
        let mut durations = Histogram::default();
        let mut errors_by_class = BTreeMap::new();
        for statement in &statements {
            durations.merge(&statement.durations);
            for (class, count) in &statement.errors_by_class {
                *errors_by_class.entry(*class).or_default() += count;
            }
        }
        Stats {
            pool: self.inner.stats(),
            queries: metrics.queries(),
            errors: errors_by_class.values().sum(),
            errors_by_class: errors_by_class.into_iter().collect(),
            timeouts: metrics.timeouts(),
            slow: metrics.slow(),
            durations,
            statements,
            last_connect_error: self.inner.last_connect_error().map(|error| summarize(&error)),
        }
    }

    /// Returns at most this number of connections: what each is doing, its host, age and uses, and who holds it.
    pub fn connections(&self, most: usize) -> Vec<ConnectionInfo> {
        self.inner.connections(most)
    }

    /// Returns everyone who holds a connection now.
    pub fn holders(&self) -> Vec<Holder> {
        self.inner.holders()
    }

    /// Returns why the last connect failed. `None` if it succeeded.
    pub fn last_connect_error(&self) -> Option<Arc<ConnectError<ConnectionError>>> {
        self.inner.last_connect_error()
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        self.inner.manager().config()
    }
}

/// A connection on its way to a caller whose handle has this command timeout.
async fn lent<'pool>(
    within: Option<Option<Duration>>,
    acquire: impl Future<Output = std::result::Result<Pooled<'pool>, AcquireError>>,
) -> std::result::Result<Pooled<'pool>, AcquireError> {
    let connection = acquire.await?;
    if let Some(limit) = within {
        connection.set_command_timeout(limit);
    }
    Ok(connection)
}
