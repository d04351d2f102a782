//! Work that the pool runs again when it failed for a reason that passes.
//!
//! Invariant: a commit with an unknown outcome is not repeated, except by [`Pool::retry_idempotent`].

use futures_util::future::BoxFuture;

use crate::{
    Error, Pool, Transaction, TransactionOptions,
    last_failure::{Failure, watch},
};

impl Pool {
    /// Runs `work` in a transaction, which is committed if `work` succeeds and rolled back if it fails. `work` may fail with
    /// any error type that an [`Error`] becomes by `?`.
    ///
    /// It is run again like [`retry`](Self::retry) if nothing was committed and the cause passes, such as a deadlock or
    /// a serialization failure; at once if a statement was [stale](Error::Stale). A commit with an unknown outcome is
    /// not repeated.
    ///
    /// `work` may run several times, so it must have no effects except those of the transaction. It must not end the
    /// transaction itself. It returns a box, because Rust cannot say yet that the future of an `async |transaction|` closure
    /// may move between threads.
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
    pub async fn transaction<'env, T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T, E>>,
        E: From<Error> + 'static,
    {
        self.transaction_with(TransactionOptions::default(), work).await
    }

    /// Like [`transaction`](Self::transaction), with explicit transaction options.
    ///
    /// # Errors
    ///
    /// Those of [`transaction`](Self::transaction).
    pub async fn transaction_with<'env, T, E, F>(&self, options: TransactionOptions, mut work: F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T, E>>,
        E: From<Error> + 'static,
    {
        let mut tries = self.config().retry.tries();
        loop {
            match watch(self.try_transaction(options, &mut work)).await {
                Ok(output) => return Ok(output),
                Err((_, Some(failure))) if failure.certainly_passes() && tries.again(failure).await => {}
                Err((error, _)) => return Err(error),
            }
        }
    }

    async fn try_transaction<'env, T, E, F>(&self, options: TransactionOptions, work: &mut F) -> Result<T, E>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>) -> BoxFuture<'t, Result<T, E>>,
        E: From<Error>,
    {
        let mut transaction: Transaction<'env> = self.begin_with(options).await?;
        let output = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(output)
    }

    /// Runs `work`, and again with growing pauses while it fails with an error that certainly had no effect and passes,
    /// such as a deadlock. [`Config::retry`](crate::Config::retry) sets the number of attempts.
    ///
    /// `work` may fail with any error type. If that is not [`Error`], the last command decides that `work` sent by itself, not
    /// in a task that it spawned: if it succeeded, `work` failed for reasons of its own and is not repeated.
    ///
    /// # Errors
    ///
    /// Those of the last attempt.
    pub async fn retry<T, E, F, Fut>(&self, work: F) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: 'static,
    {
        self.config().retry.run(work, Failure::certainly_passes).await
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
    pub async fn retry_idempotent<T, E, F, Fut>(&self, work: F) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: 'static,
    {
        self.config().retry.run(work, |failure| failure.is_retryable).await
    }
}
