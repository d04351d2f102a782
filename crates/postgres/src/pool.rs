//! The PostgreSQL pool. Invariant: a thin face over the generic pool; it adds what only a database
//! has.

use std::{sync::Arc, time::Duration};

use crate::{
    AcquireError, Config, Error, InvalidConfig, Postgres, Result, error::summarize, watch::Watch,
};

/// A connection on loan from a [`Pool`]; dropping it gives it back.
pub type Pooled<'pool> = cenote_pool::Pooled<'pool, Postgres>;

/// A connection on loan that keeps its [`Pool`] alive by itself.
pub type OwnedPooled = cenote_pool::OwnedPooled<Postgres>;

/// A pool of connections to one PostgreSQL database. Cloning it gives another handle to it.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: cenote_pool::Pool<Postgres>,
    /// Ends with the last handle.
    _watch: Arc<Watch>,
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
    pub fn new(mut config: Config) -> std::result::Result<Self, InvalidConfig> {
        if config.server.get_application_name().is_none() {
            config.server.application_name("cenote");
        }
        let limits = config.pool.clone();
        let interval = config.lookup_interval;
        let inner = cenote_pool::Pool::new(Postgres::new(config)?, limits)?;
        let watch = Watch::start(inner.clone(), interval);
        Ok(Self {
            inner,
            _watch: Arc::new(watch),
        })
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
    pub fn get(
        &self,
    ) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
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

    /// As [`get`](Self::get), for a caller that has waited elsewhere already: that time counts.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_after(
        &self,
        waited: Duration,
    ) -> impl Future<Output = std::result::Result<Pooled<'_>, AcquireError>> + Send {
        let patience = self.config().pool.acquire_timeout;
        self.inner.get_within(patience.saturating_sub(waited))
    }

    /// As [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(
        &self,
    ) -> impl Future<Output = std::result::Result<OwnedPooled, AcquireError>> + Send + use<> {
        self.inner.get_owned()
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
        let passes = |error: &Error| error.is_retryable() && !error.is_outcome_unknown();
        self.config().retry.run(work, passes).await
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
        let observer = self.inner.manager().observer();
        Stats {
            pool: self.inner.stats(),
            queries: observer.queries(),
            errors: observer.errors(),
            timeouts: observer.timeouts(),
            last_connect_error: self
                .inner
                .last_connect_error()
                .map(|error| summarize(&error)),
        }
    }

    /// What the pool was told at the start.
    pub fn config(&self) -> &Config {
        self.inner.manager().config()
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
