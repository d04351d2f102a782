//! The PostgreSQL pool. Invariant: a thin face over the generic pool; it adds what only a database
//! has.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::{
    AcquireError, Config, Error, InvalidConfig, Postgres, Result, Transaction, TransactionOptions,
    connection_error::summarize,
    manager::{OwnedPooled, Pooled},
    session::transaction::ConnectionRef,
};

/// A pool of connections to one PostgreSQL database. Cloning it gives another handle to it.
#[derive(Clone, Debug)]
pub struct Pool {
    pub(crate) inner: cenote_pool::Pool<Postgres>,
}

/// One moment in the life of a [`Pool`].
#[derive(Clone, Debug)]
pub struct Stats {
    /// Connections, callers and times.
    pub pool: cenote_pool::Stats,
    /// Commands sent, whatever came of them.
    pub queries: u64,
    /// Commands that failed.
    pub errors: u64,
    /// Commands among them that took longer than the command timeout.
    pub timeouts: u64,
    /// Why the most recent connect failed, in words fit for strangers, if none has succeeded since.
    pub last_connect_error: Option<&'static str>,
}

impl Pool {
    /// Builds a pool and starts connecting in the background. It does not wait for the database:
    /// use [`health`](Self::health) or [`get`](Self::get) to learn whether it is there.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself, asks for what cannot be had, or names a certificate that cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(config: Config) -> std::result::Result<Self, InvalidConfig> {
        Self::on_runtimes(config, vec![Handle::current()])
    }

    /// As [`new`](Self::new), with connections that live on these runtimes; see [`cenote_pool::Pool::on_runtimes`].
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), or there is no runtime.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn on_runtimes(mut config: Config, runtimes: Vec<Handle>) -> std::result::Result<Self, InvalidConfig> {
        if config.server.get_application_name().is_none() {
            config.server.application_name("cenote");
        }
        let limits = config.pool.clone();
        let inner = cenote_pool::Pool::on_runtimes(Postgres::new(config)?, limits, runtimes)?;
        Ok(Self { inner })
    }

    /// A handle for each runtime that connections live on, for those who call from there; see
    /// [`cenote_pool::Pool::per_runtime`].
    pub fn per_runtime(&self) -> impl Iterator<Item = Self> + '_ {
        self.inner.per_runtime().map(|inner| Self { inner })
    }

    /// Takes a connection, waiting in line for at most the pool's `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The time ran out, too many callers are waiting, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: whoever gives up leaves the line.
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        self.inner.get()
    }

    /// As [`get`](Self::get), with another bound on the wait.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        self.inner.get_within(limit)
    }

    /// As [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(&self) -> impl Future<Output = std::result::Result<OwnedPooled, AcquireError>> + Send + use<> {
        self.inner.get_owned()
    }

    /// Takes a connection and begins a transaction on it, which is rolled back unless it is committed. Its end gives
    /// the connection back.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), then see [`Error`].
    pub async fn begin(&self) -> Result<Transaction<'static>> {
        self.begin_with(TransactionOptions::default()).await
    }

    /// As [`begin`](Self::begin), with a say in what it may do and see.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_with(&self, options: TransactionOptions) -> Result<Transaction<'static>> {
        let connection = self.get_owned().await?;
        Transaction::begin(ConnectionRef::Owned(connection), options).await
    }

    /// Runs `work` in a transaction: committed if it succeeds, rolled back if it fails, and run again as by
    /// [`retry`](Self::retry) if the reason passes and nothing was committed, such as a deadlock or a serialization
    /// failure; at once if a statement was [stale](Error::Stale). A commit whose outcome is unknown is not repeated.
    ///
    /// `work` may run several times, so it must have no effects but those of the transaction, and must not end it by
    /// hand.
    ///
    /// # Errors
    ///
    /// Those of the last try.
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

    /// As [`transaction`](Self::transaction), with a say in what it may do and see.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
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

    /// Runs `work`, again with growing pauses if it fails for a reason that passes and certainly
    /// had no effect, such as a deadlock.
    ///
    /// # Errors
    ///
    /// Those of the last try.
    pub async fn retry<T, F, Fut>(&self, work: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.config().retry.run(work, Error::certainly_passes).await
    }

    /// As [`retry`](Self::retry), but also after a connection was lost on the way, when an earlier
    /// try may have had its effect: only for work that may be repeated, such as reading.
    ///
    /// # Errors
    ///
    /// Those of the last try.
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

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        let metrics = self.inner.manager().metrics();
        Stats {
            pool: self.inner.stats(),
            queries: metrics.queries(),
            errors: metrics.errors(),
            timeouts: metrics.timeouts(),
            last_connect_error: self.inner.last_connect_error().map(|error| summarize(&error)),
        }
    }

    /// What the pool was told at the start.
    pub fn config(&self) -> &Config {
        self.inner.manager().config()
    }

    /// Takes one of several hosts out of use, for as long as it takes to move or restart it: its idle connections are
    /// closed now, those in use when they come back, and new ones are opened on the other hosts. `host` is as
    /// [`Connection::host`](crate::Connection::host) shows it. Says whether there is such a host.
    ///
    /// Where no host is left, connecting fails until one is [restored](Self::restore_host).
    pub fn drain_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, true)
    }

    /// Ends what [`drain_host`](Self::drain_host) began. Connections that are open stay where they are.
    pub fn restore_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, false)
    }

    /// Refuses newcomers, serves those in line, and completes when every connection is closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped.
    pub async fn drain(&self) {
        self.inner.drain().await;
    }

    /// As [`drain`](Self::drain), but refuses those in line too.
    ///
    /// # Cancel safety
    ///
    /// As [`drain`](Self::drain).
    pub async fn close(&self) {
        self.inner.close().await;
    }
}
