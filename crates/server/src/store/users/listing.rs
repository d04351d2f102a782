//! Lists users by id, so that a caller who goes on from the last id misses nobody.
//!
//! Invariant: no user with an id up to the watermark is added any more.
//!
//! The difficulty: an id is given out before its transaction commits. So a user with a greater id may be visible earlier,
//! and an id whose transaction failed is never used. When ids are missing in a list, this module waits until the
//! transactions that may own them have ended.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{Pool, Result};
use tokio::time::{Instant, sleep};

use super::user::UserRow;
use crate::store::SchemaName;

/// Lists users. `$1`: ids above this one, `$2`: at most this many.
const LIST: &str =
    "/* user.list */ SELECT id::bigint, name, email FROM {schema}.users WHERE id > $1::bigint ORDER BY id LIMIT $2";

/// Returns the transactions that are changing the table. `$1`: look only for these, or null for all.
///
/// Every change takes the lock `RowExclusiveLock` before it takes an id, and keeps it until its transaction ends. So a
/// transaction that is not listed owns no missing id. `virtualtransaction` names it; a pid could be used by another one.
const ADDING: &str = "/* user.adding */ SELECT virtualtransaction FROM pg_locks \
     WHERE locktype = 'relation' AND relation = '{schema}.users'::regclass AND mode = 'RowExclusiveLock' AND granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND ($1::text[] IS NULL OR virtualtransaction = ANY ($1))";

/// How long a list waits for transactions that are adding users.
const WAIT: Duration = Duration::from_millis(250);
/// The pause between looks at them.
const CHECK_INTERVAL: Duration = Duration::from_millis(3);
/// After this time a missing id counts as never used. It is longer than any statement of the service may take.
const GIVE_UP: Duration = Duration::from_secs(15);

/// Lists users, on one core.
#[derive(Clone)]
pub(crate) struct Listing {
    pool: Pool,
    state: Arc<ListingState>,
}

/// What all cores share.
struct ListingState {
    list: String,
    adding: String,
    watermark: Watermark,
}

/// The id up to which no further user is added.
#[derive(Default)]
struct Watermark {
    /// Relaxed: the number is all that is shared, and an old one only costs another look.
    id: AtomicI64,
    /// An id that the watermark could not reach, and since when.
    overdue: Mutex<Option<(i64, Instant)>>,
    /// Held while one caller waits for transactions, so that the others use its result.
    raising: tokio::sync::Mutex<()>,
}

impl Watermark {
    /// Returns the first id above `from` and the watermark that is missing although the rows have a greater one. Without
    /// such a gap, raises the watermark to the last row.
    fn gap(&self, from: i64, rows: &[UserRow]) -> Option<i64> {
        let watermark = self.id.load(Relaxed);
        let mut next = from.max(watermark).saturating_add(1);
        for id in rows.iter().map(UserRow::id).filter(|id| *id > watermark) {
            if id != next {
                return Some(next);
            }
            next = id.saturating_add(1);
        }
        // A list that begins above the watermark says nothing about the ids between.
        if from <= watermark {
            self.raise(next - 1);
        }
        None
    }

    fn raise(&self, id: i64) {
        self.id.fetch_max(id, Relaxed);
    }

    /// Records that the watermark could not be raised to `newest`. Returns true, and raises it, if that has been so for
    /// [`GIVE_UP`].
    fn give_up(&self, newest: i64, now: Instant) -> bool {
        let mut overdue = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        match *overdue {
            Some((_, since)) if now.duration_since(since) < GIVE_UP => false,
            Some((id, _)) if id > self.id.load(Relaxed) => {
                self.raise(id);
                *overdue = Some((newest, now));
                id >= newest
            }
            _ => {
                *overdue = Some((newest, now));
                false
            }
        }
    }
}

impl Listing {
    /// Creates a handle for each of the pool's runtimes, with one watermark for all.
    pub(super) fn per_runtime(pool: &Pool, schema: &SchemaName) -> Vec<Self> {
        let state = Arc::new(ListingState {
            list: schema.fill(LIST),
            adding: schema.fill(ADDING),
            watermark: Watermark::default(),
        });
        let listing = |pool| Self {
            pool,
            state: state.clone(),
        };
        pool.per_runtime().map(listing).collect()
    }

    /// Lists at most `limit` users with ids above `after`, in ascending order.
    ///
    /// A caller who continues with the last id misses nobody: with `after`, the list ends before the first id that may still
    /// be added. It waits for at most 250 ms for transactions that are adding users.
    pub(crate) async fn page(&self, after: Option<i64>, limit: i64) -> Result<Vec<UserRow>> {
        let from = after.unwrap_or(0);
        let rows = self.list(from, limit).await?;
        if self.state.watermark.gap(from, &rows).is_none() {
            return Ok(rows);
        }
        let _raising = self.state.watermark.raising.lock().await;
        // Another caller may have raised the watermark meanwhile.
        let mut rows = self.list(from, limit).await?;
        let Some(gap) = self.state.watermark.gap(from, &rows) else {
            return Ok(rows);
        };
        let newest = rows.last().map_or(from, UserRow::id);
        if self.raise_watermark(newest).await? {
            rows = self.list(from, limit).await?;
            rows.retain(|row| row.id() <= newest);
        } else if after.is_some() {
            rows.retain(|row| row.id() < gap);
        }
        Ok(rows)
    }

    async fn list(&self, after: i64, limit: i64) -> Result<Vec<UserRow>> {
        let (pool, list) = (&self.pool, &self.state.list);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(list, &[&after, &limit]).await })
            .await?;
        Ok(rows.into_iter().map(UserRow).collect())
    }

    /// Waits for a short time until all transactions have ended that are changing the table now, then raises the watermark
    /// to `newest`. Returns whether it was raised.
    ///
    /// `newest` was read before this call, so transactions that begin later get greater ids.
    async fn raise_watermark(&self, newest: i64) -> Result<bool> {
        let start = Instant::now();
        let mut adding = self.adding(None).await?;
        while !adding.is_empty() {
            if start.elapsed() >= WAIT {
                return Ok(self.state.watermark.give_up(newest, Instant::now()));
            }
            sleep(CHECK_INTERVAL).await;
            adding = self.adding(Some(adding)).await?;
        }
        self.state.watermark.raise(newest);
        Ok(true)
    }

    /// Returns which of these transactions, or of all, are changing the table.
    async fn adding(&self, of: Option<Vec<String>>) -> Result<Vec<String>> {
        let (pool, adding) = (&self.pool, &self.state.adding);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(adding, &[&of]).await })
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
