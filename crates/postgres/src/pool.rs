//! The PostgreSQL pool.
//!
//! Invariant: it only wraps the generic pool and adds what only a database has, such as transactions and retries.

use std::time::Duration;

use cenote_pool::{ConnectionInfo, Limits};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::{
    AcquireError, Config, Error, Histogram, HostState, InvalidConfig, OwnedPooled, Pooled, Postgres, Result,
    Transaction, TransactionOptions, connection_error::summarize, session::transaction::ConnectionRef,
};

/// A pool of connections to one PostgreSQL database. A clone is another handle to the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) inner: cenote_pool::Pool<Postgres>,
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

    /// Like [`new`](Self::new), with connections on these runtimes. See [`cenote_pool::Pool::on_runtimes`].
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), or `runtimes` is empty.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn on_runtimes(mut config: Config, runtimes: Vec<Handle>) -> std::result::Result<Self, InvalidConfig> {
        if config.server.get_application_name().is_none() {
            config.server.application_name("cenote");
        }
        let limits = config.pool.clone();
        let inner = cenote_pool::Pool::on_runtimes(Postgres::new(config)?, limits, runtimes)?;
        Ok(Self { inner })
    }

    /// Returns a handle for each runtime, for callers on that runtime. See [`cenote_pool::Pool::per_runtime`].
    pub fn per_runtime(&self) -> impl Iterator<Item = Self> + '_ {
        self.inner.per_runtime().map(|inner| Self { inner })
    }

    /// Acquires a connection. Waits in the queue for at most the pool's `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The time is over, too many callers wait, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped future leaves the queue.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        self.inner.get()
    }

    /// Like [`get`](Self::get), with this timeout instead of `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        self.inner.get_within(limit)
    }

    /// Like [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(&self) -> impl Future<Output = std::result::Result<OwnedPooled, AcquireError>> + Send + use<> {
        self.inner.get_owned()
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

    /// Runs `work` in a transaction, which is committed if `work` succeeds and rolled back if it fails.
    ///
    /// It is run again like [`retry`](Self::retry) if nothing was committed and the cause passes, such as a deadlock or
    /// a serialization failure; at once if a statement was [stale](Error::Stale). A commit with an unknown outcome is
    /// not repeated.
    ///
    /// `work` may run several times, so it must have no effects except those of the transaction. It must not end the
    /// transaction itself.
    ///
    /// # Errors
    ///
    /// Those of the last attempt.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool, from: i64, to: i64) -> cenote_postgres::Result<()> {
    /// let (take, give) = (
    ///     "UPDATE stock SET pieces = pieces - 1 WHERE id = $1",
    ///     "UPDATE stock SET pieces = pieces + 1 WHERE id = $1",
    /// );
    /// pool.transaction(|transaction| {
    ///     Box::pin(async move {
    ///         transaction.execute(take, &[&from]).await?;
    ///         transaction.execute(give, &[&to]).await
    ///     })
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transaction<'env, T, F>(&self, work: F) -> Result<T>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T>>,
    {
        self.transaction_with(TransactionOptions::default(), work).await
    }

    /// Like [`transaction`](Self::transaction), with explicit transaction options.
    ///
    /// # Errors
    ///
    /// Those of [`transaction`](Self::transaction).
    pub async fn transaction_with<'env, T, F>(&self, options: TransactionOptions, mut work: F) -> Result<T>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T>>,
    {
        let mut tries = self.config().retry.tries();
        loop {
            let result = self.try_transaction(options, &mut work).await;
            match result {
                Err(error) if error.certainly_passes() && tries.again(&error).await => {}
                result => return result,
            }
        }
    }

    async fn try_transaction<'env, T, F>(&self, options: TransactionOptions, work: &mut F) -> Result<T>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T>>,
    {
        let mut transaction: Transaction<'env> = self.begin_with(options).await?;
        let output = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(output)
    }

    /// Runs `work`, and again with growing pauses while it fails with an error that certainly had no effect and passes,
    /// such as a deadlock. [`Config::retry`] sets the number of attempts.
    ///
    /// # Errors
    ///
    /// Those of the last attempt.
    pub async fn retry<T, F, Fut>(&self, work: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.config().retry.run(work, Error::certainly_passes).await
    }

    /// Like [`retry`](Self::retry), but also repeats after a lost connection, when an earlier attempt may have had its
    /// effect. Use it only for work that may be repeated, such as reading.
    ///
    /// # Errors
    ///
    /// Those of the last attempt.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let row = pool
    ///     .retry_idempotent(|| async { pool.get().await?.query_one("SELECT now()", &[]).await })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn retry_idempotent<T, F, Fut>(&self, work: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.config().retry.run(work, Error::is_retryable).await
    }

    /// Returns statistics.
    pub fn stats(&self) -> Stats {
        let metrics = self.inner.manager().metrics();
        Stats {
            pool: self.inner.stats(),
            queries: metrics.queries(),
            errors: metrics.errors().total(),
            errors_by_class: metrics.errors().by_class(),
            timeouts: metrics.timeouts(),
            slow: metrics.slow(),
            durations: metrics.durations(),
            last_connect_error: self.inner.last_connect_error().map(|error| summarize(&error)),
        }
    }

    /// Returns at most this number of connections: what each is doing, and who holds it.
    pub fn connections(&self, most: usize) -> Vec<ConnectionInfo> {
        self.inner.connections(most)
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

    /// Like [`drain`](Self::drain), but refuses the callers in the queue too.
    ///
    /// # Cancel safety
    ///
    /// The close continues when the future is dropped.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}
