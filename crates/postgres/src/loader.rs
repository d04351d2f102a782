//! One statement for many callers: look-ups by key that come while the database is busy go together.
//!
//! Nothing waits for company: a key that finds a lane free is looked up at once. Only what comes while all lanes
//! are at the database gathers, and is then sent as one statement, so the busier the database the more each
//! statement does.
//!
//! Invariant: a key in the queue has a lane that will take it, and every caller gets exactly the answer to its own
//! key, or the error of the statement that it was part of.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use tokio_postgres::{Row, types::ToSql};

use crate::{Error, Pool, Result};

/// Statements under way at once; more would each carry less.
const LANES: u32 = 2;
/// Keys in one statement.
const MOST_KEYS: usize = 512;

/// Looks rows up by key, many callers at a time.
///
/// Cloning it gives another handle to the same queue.
pub struct Loader<K, V>(Arc<Shared<K, V>>);

struct Shared<K, V> {
    pool: Pool,
    sql: &'static str,
    read: fn(&Row) -> V,
    /// Held to put something in or take everything out, never across an await.
    queue: Mutex<Queue<K, V>>,
}

struct Queue<K, V> {
    waiting: Vec<Wanted<K, V>>,
    lanes: u32,
}

struct Wanted<K, V> {
    key: K,
    answer: oneshot::Sender<Result<Option<V>>>,
}

impl<K, V> Loader<K, V>
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static,
{
    /// A loader for a query that takes an array of keys, and whose rows begin with the position of their key in
    /// it, from 1, as `unnest … WITH ORDINALITY` gives it. Keys without a row have none. `read` makes the value of
    /// a row.
    ///
    /// The query must change nothing: it may be repeated.
    pub fn new(pool: Pool, sql: &'static str, read: fn(&Row) -> V) -> Self {
        let queue = Queue {
            waiting: Vec::new(),
            lanes: 0,
        };
        Self(Arc::new(Shared {
            pool,
            sql,
            read,
            queue: Mutex::new(queue),
        }))
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] if as many callers wait as the pool's `max_waiters` allows; otherwise those of the
    /// statement.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future harms nobody else in the same statement.
    pub async fn load(&self, key: K) -> Result<Option<V>> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Wanted { key, answer })?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Lost {
                cause: "the runtime is shutting down".into(),
            }),
        }
    }

    fn enqueue(&self, wanted: Wanted<K, V>) -> Result<()> {
        let mut queue = self.0.queue();
        if queue.waiting.len() >= self.0.pool.config().pool.max_waiters as usize {
            return Err(Error::QueueFull);
        }
        queue.waiting.push(wanted);
        if queue.lanes < LANES {
            queue.lanes += 1;
            drop(queue);
            let lane = Lane(self.0.clone());
            tokio::spawn(lane.run());
        }
        Ok(())
    }
}

impl<K, V> Clone for Loader<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> std::fmt::Debug for Loader<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("sql", &self.0.sql)
            .finish_non_exhaustive()
    }
}

impl<K, V> Shared<K, V> {
    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works the queue until it is empty. Dropped on the way, whoever it was working for learns of it by the loss of
/// their answers, and the next caller starts another.
struct Lane<K, V>(Arc<Shared<K, V>>);

impl<K, V> Lane<K, V>
where
    K: ToSql + Send + Sync + 'static,
    V: Send + 'static,
{
    async fn run(self) {
        let mut lane = Running(Some(self));
        while let Some(Lane(shared)) = &lane.0 {
            // Whoever is ready to ask asks first.
            tokio::task::yield_now().await;
            let batch = {
                let mut queue = shared.queue();
                let rest = queue.waiting.len().min(MOST_KEYS);
                let later = queue.waiting.split_off(rest);
                mem::replace(&mut queue.waiting, later)
            };
            // Under the lock again, so that no key is left behind by the last lane.
            if batch.is_empty() && lane.end_if_idle() {
                return;
            }
            if let Some(Lane(shared)) = &lane.0 {
                shared.answer(batch).await;
            }
        }
    }
}

/// A lane that counts.
struct Running<K, V>(Option<Lane<K, V>>);

impl<K, V> Running<K, V> {
    fn end_if_idle(&mut self) -> bool {
        let Some(Lane(shared)) = &self.0 else {
            return true;
        };
        let mut queue = shared.queue();
        if !queue.waiting.is_empty() {
            return false;
        }
        queue.lanes -= 1;
        drop(queue);
        self.0 = None;
        true
    }
}

impl<K, V> Drop for Running<K, V> {
    fn drop(&mut self) {
        if let Some(Lane(shared)) = &self.0 {
            shared.queue().lanes -= 1;
        }
    }
}

impl<K: ToSql + Sync, V> Shared<K, V> {
    /// Asks for all keys at once and tells each caller.
    async fn answer(&self, batch: Vec<Wanted<K, V>>) {
        let mut keys = Vec::with_capacity(batch.len());
        let mut callers = Vec::with_capacity(batch.len());
        for Wanted { key, answer } in batch {
            // Whoever has given up need not be asked for.
            if !answer.is_closed() {
                keys.push(key);
                callers.push(Some(answer));
            }
        }
        if keys.is_empty() {
            return;
        }
        let (pool, sql, keys) = (&self.pool, self.sql, &keys);
        let rows = pool
            .retry_idempotent(|| async move { pool.get().await?.query(sql, &[keys]).await })
            .await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                for caller in callers.into_iter().flatten() {
                    // A caller that has gone needs no answer.
                    let _gone = caller.send(Err(error.clone()));
                }
                return;
            }
        };
        for row in &rows {
            let position = row.try_get::<_, i64>(0).unwrap_or(0);
            let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
            if let Some(caller) = callers.get_mut(index).and_then(Option::take) {
                let _gone = caller.send(Ok(Some((self.read)(row))));
            }
        }
        for caller in callers.into_iter().flatten() {
            let _gone = caller.send(Ok(None));
        }
    }
}
