//! Transactions of a cenote pool that tell the cache what they change. Invariant: a commit is sent only behind fences, and
//! fences are released only when the outcome is certain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cenote_cache::{Fenced, NotFenced};
use cenote_postgres::{Error, Pool, Transaction};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    cached::Cached,
    commit::{BEFORE_COMMIT, Committed, WriteError, acknowledge, fence},
    release::Release,
    touched::Touched,
};

impl Cached<Error> {
    /// Runs `work` in a transaction. At its end the [touched](Touched::add) keys are fenced, the transaction commits, and the
    /// fences are released: a read that begins after this returned sees the write, through any instance.
    ///
    /// `work` may fail with any error type that an [`Error`] becomes by `?`; then the transaction is rolled back. It is run
    /// again as by [`Pool::transaction`] if nothing was committed and the cause passes, such as a deadlock, or if Redis could
    /// not be told: then once it can be, for at most [`Config::write_patience`](crate::Config::write_patience). So `work` must
    /// have no effects except those of the transaction, and it must not read through the cache what it is about to change.
    ///
    /// After `work` the transaction holds its locks for two more round trips: to the database, which checks deferred
    /// constraints, and to Redis for the fences, at most Redis' timeout. The wait for an outage of Redis holds no connection.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotCommitted`] with the error of `work` or of the database; [`WriteError::NotFenced`]; and
    /// [`WriteError::Unknown`] if the commit was not answered.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the commit was sent, nothing is committed. After that the outcome is unknown to the
    /// caller; the cache stays coherent: either the fences are released after a commit, or they expire.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn transaction<'env, T, E, F>(&self, pool: &Pool, work: F) -> Result<Committed<T>, WriteError<E>>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>, &'t mut Touched) -> BoxFuture<'t, Result<T, E>> + Send + 'env,
        T: Send + 'env,
        E: From<Error> + Send + 'static,
    {
        let start = Instant::now();
        let deadline = start + self.write_patience();
        let attempts = Arc::new(Attempts {
            cached: self.clone(),
            work: Mutex::new(work),
            stage: Mutex::new(Stage::Working),
        });
        loop {
            self.cache().unobstructed(deadline).await?;
            let attempt = attempts.clone();
            let done = pool
                .transaction(move |transaction| {
                    let attempt = attempt.clone();
                    Box::pin(async move { attempt.run(transaction).await })
                })
                .await;
            let stage = attempts.stage(Stage::Working);
            return match (done, stage) {
                (Ok(output), Stage::Committing(fenced)) => Ok(acknowledge(output, fenced).await),
                // Never: an attempt that succeeds leaves that it is committing.
                (Ok(output), Stage::Working) => Ok(acknowledge(output, None).await),
                // Redis was lost after the wait above.
                (Err(Failed::NotFenced(_)), _) if Instant::now() < deadline => continue,
                (Err(Failed::NotFenced(error)), _) => {
                    let waited = start.elapsed();
                    Err(NotFenced { waited, ..error }.into())
                }
                (Err(Failed::Work(error)), _) => Err(WriteError::NotCommitted(error)),
                // Not released: the commit may still take effect.
                (Err(Failed::Database(error)), Stage::Committing(_)) if error.is_outcome_unknown() => {
                    Err(WriteError::Unknown(error.into()))
                }
                (Err(Failed::Database(error)), stage) => {
                    stage.release();
                    Err(WriteError::NotCommitted(error.into()))
                }
            };
        }
    }
}

/// How far an attempt is.
enum Stage {
    /// The commit was not sent.
    Working,
    /// The commit is sent next, or was sent, behind these fences.
    Committing(Option<Fenced>),
}

impl Stage {
    /// Releases the fences of a commit that certainly had no effect.
    fn release(self) {
        if let Self::Committing(Some(fenced)) = self {
            let _nothing_was_written = Release::spawn(fenced);
        }
    }
}

/// Why an attempt failed.
enum Failed<E> {
    Work(E),
    NotFenced(NotFenced),
    Database(Error),
}

impl<E> From<Error> for Failed<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// What all attempts of a transaction share. They run one after the other, so nobody waits for the locks; these are never
/// held across an await.
struct Attempts<F> {
    cached: Cached<Error>,
    work: Mutex<F>,
    stage: Mutex<Stage>,
}

impl<F> Attempts<F> {
    /// Sets the stage, and returns the one before.
    fn stage(&self, stage: Stage) -> Stage {
        std::mem::replace(&mut *lock(&self.stage), stage)
    }

    /// Runs the work, and fences what it touched. The commit follows.
    async fn run<'env, T, E>(&self, transaction: &mut Transaction<'env>) -> Result<T, Failed<E>>
    where
        F: for<'t> FnMut(&'t mut Transaction<'env>, &'t mut Touched) -> BoxFuture<'t, Result<T, E>>,
    {
        // An attempt before this one certainly had no effect: otherwise there would be none after it.
        self.stage(Stage::Working).release();
        let mut touched = Touched::new();
        let working = lock(&self.work)(transaction, &mut touched);
        let output = working.await.map_err(Failed::Work)?;
        let keys = touched.texts();
        if keys.is_empty() {
            self.stage(Stage::Committing(None));
            return Ok(output);
        }
        transaction.batch_execute(BEFORE_COMMIT).await?;
        let fenced = fence(self.cached.cache(), &keys, self.cached.commit_deadline()).await;
        self.stage(Stage::Committing(Some(fenced.map_err(Failed::NotFenced)?)));
        Ok(output)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
