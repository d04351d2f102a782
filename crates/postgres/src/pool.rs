//! The PostgreSQL pool.
//!
//! Invariant: it only wraps the generic pool and adds what only a database has, such as transactions and retries.

use std::{collections::BTreeMap, panic::Location, sync::Arc, time::Duration};

use cenote_pool::{ConnectError, ConnectionInfo, Holder, Limits};
use futures_util::TryFutureExt;
use tokio::runtime::Handle;

use crate::{
    AcquireError, Config, ConnectionError, Error, Histogram, Hooks, HostState, InvalidConfig, OwnedPooled, Pooled,
    Postgres, Result, StatementStats, Transaction, TransactionOptions, connection_error::summarize,
    session::transaction::ConnectionRef,
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
        let limits = config.pool.clone();
        let inner = cenote_pool::Pool::on_runtimes(Postgres::new(config, hooks)?, limits, runtimes)?;
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
    /// idle.
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

    /// Returns at most this number of connections: what each is doing, and who holds it.
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

    /// Returns the current limits of the pool.
    pub fn limits(&self) -> Limits {
        self.inner.limits()
    }

    /// Changes the limits, at once. See [`cenote_pool::Pool::resize`].
    ///
    /// # Errors
    ///
    /// The limits contradict each other. Nothing changes then.
    pub fn resize(&self, limits: Limits) -> std::result::Result<(), InvalidConfig> {
        Ok(self.inner.resize(limits)?)
    }

    /// Stops handing out and opening connections, for example to restart the server. Callers wait until their own
    /// deadlines. The pause begins with the call; the future completes when no connection is in use. See
    /// [`cenote_pool::Pool::pause`].
    ///
    /// # Cancel safety
    ///
    /// The pause stays when the future is dropped.
    pub fn pause(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.pause()
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.inner.resume();
    }

    /// Inspects every idle connection now, and cleans or closes those that are not clean. The pool does so by itself about
    /// every second. See [`cenote_pool::Pool::sweep`].
    pub fn sweep(&self) {
        self.inner.sweep();
    }

    /// Waits until the configured minimum of connections is open, for at most this time.
    ///
    /// # Errors
    ///
    /// [`Error::Acquire`] if fewer are open by then, and at once if the pool is closed or connects cannot succeed. The pool
    /// goes on connecting.
    ///
    /// # Cancel safety
    ///
    /// Safe: the pool connects in any case.
    pub async fn warm_up_within(&self, limit: Duration) -> Result<()> {
        Ok(self.inner.warm_up_within(limit).await?)
    }

    /// Returns the hosts of the database, in the order of the configuration.
    pub fn hosts(&self) -> Vec<HostState> {
        self.inner.manager().router().watch().hosts()
    }

    /// Takes a host out of use, for example to move or restart it. Returns false if there is no such host.
    ///
    /// Idle connections to it are closed now, others when they are returned. New ones are opened on the other hosts.
    /// `host` is as [`Connection::host`](crate::Connection::host) returns it.
    ///
    /// If no host is left, connecting fails until one is [restored](Self::restore_host).
    pub fn drain_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, true)
    }

    /// Ends [`drain_host`](Self::drain_host). Open connections stay where they are.
    pub fn restore_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, false)
    }

    /// Refuses new callers, serves those in the queue, and completes when all connections are closed.
    ///
    /// # Cancel safety
    ///
    /// The drain continues when the future is dropped.
    pub async fn drain(&self) {
        self.inner.drain().await;
    }

    /// Like [`drain`](Self::drain), and like [`close`](Self::close) once this time is over. It does not wait for what is in
    /// use then: that is closed when it is released. Returns whether every connection was released and closed in time.
    ///
    /// # Cancel safety
    ///
    /// The drain continues when the future is dropped.
    pub async fn drain_within(&self, limit: Duration) -> bool {
        self.inner.drain_within(limit).await
    }

    /// Like [`drain`](Self::drain), but refuses the callers in the queue too.
    ///
    /// # Cancel safety
    ///
    /// The close continues when the future is dropped.
    pub async fn close(&self) {
        self.inner.close().await;
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
