//! Users. Invariant: no two have the same e-mail address, as `email` compares them; an index sees to that.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{
    Error, Limits, Loader, Pool, Result,
    tokio_postgres::{Row, error::SqlState, types::ToSql},
};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::{Store, email};
use crate::settings::SchemaName;

/// Many users at once; see the query for keys about the bounds.
const GET: &str = "SELECT wanted.position, users.id::bigint, users.name, users.email \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) \
     JOIN {schema}.users ON users.id = wanted.id \
     WHERE wanted.position BETWEEN 1 AND 1000000000";
pub(super) const LIST: &str =
    "SELECT id::bigint, name, email FROM {schema}.users WHERE id > $1::bigint ORDER BY id LIMIT $2";
/// Who holds the lock that every change of the table takes, before it takes a number, and keeps until it ends.
pub(super) const ADDING: &str = "SELECT virtualtransaction FROM pg_locks \
     WHERE locktype = 'relation' AND relation = '{schema}.users'::regclass AND mode = 'RowExclusiveLock' AND granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND ($1::text[] IS NULL OR virtualtransaction = ANY ($1))";
pub(super) const ADD: &str = "INSERT INTO {schema}.users (name, email, email_key) VALUES ($1, $2, $3) \
     RETURNING id::bigint, name, email";
/// How long a list waits for those who are adding users.
const WAIT: Duration = Duration::from_millis(250);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(3);
/// After this time a missing number is taken for one that is never added; no statement of the service takes as long.
const GIVE_UP: Duration = Duration::from_secs(15);

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User<'a> {
    #[schema(minimum = 1)]
    pub(crate) id: i64,
    #[schema(example = "Ada")]
    pub(crate) name: &'a str,
    #[schema(example = "ada@example.org")]
    pub(crate) email: &'a str,
}

/// A user as the database sent it: a row that ends in `id, name, email`.
pub(crate) struct UserRow(Row);

impl UserRow {
    pub(crate) fn user(&self) -> User<'_> {
        let first = self.0.len() - 3;
        User {
            id: self.0.get(first),
            name: self.0.get(first + 1),
            email: self.0.get(first + 2),
        }
    }
}

impl UserRow {
    fn id(&self) -> i64 {
        self.0.get(self.0.len() - 3)
    }
}

/// Up to which number users are settled: those that are there can be listed, and no further one is added. Numbers are
/// given out before the commit, so a greater one may be there first; and some are never used.
#[derive(Default)]
pub(super) struct Settled {
    upto: AtomicI64,
    /// The first number that could not be settled, and since when.
    overdue: Mutex<Option<(i64, Instant)>>,
    /// Held by the one who settles.
    one: tokio::sync::Mutex<()>,
}

impl Settled {
    /// The first number above `from` that is missing and not settled, with a greater one in the rows.
    fn gap(&self, from: i64, rows: &[UserRow]) -> Option<i64> {
        let upto = self.upto.load(Relaxed);
        let mut next = from.max(upto).saturating_add(1);
        for id in rows.iter().map(UserRow::id).filter(|id| *id > upto) {
            if id != next {
                return Some(next);
            }
            next = id.saturating_add(1);
        }
        if from <= upto {
            self.raise(next - 1);
        }
        None
    }

    fn raise(&self, upto: i64) {
        self.upto.fetch_max(upto, Relaxed);
    }

    /// Notes that the users up to this number could not be settled. Whether that has been so for long enough to go on
    /// without users that may still be added.
    fn give_up(&self, newest: i64, now: Instant) -> bool {
        let mut overdue = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        match *overdue {
            Some((_, since)) if now.duration_since(since) < GIVE_UP => false,
            Some((upto, _)) if upto > self.upto.load(Relaxed) => {
                self.raise(upto);
                *overdue = Some((newest, now));
                upto >= newest
            }
            _ => {
                *overdue = Some((newest, now));
                false
            }
        }
    }
}

impl Serialize for UserRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.user().serialize(serializer)
    }
}

/// Looks users up, many callers' at a time.
pub(super) fn loaders(pool: &Pool, limits: &Limits, schema: &SchemaName) -> Vec<Loader<i64, Arc<UserRow>>> {
    let user = |row| Ok(Arc::new(UserRow(row)));
    Loader::per_home(pool, schema.fill(GET), user, |_| size_of::<i64>(), limits)
}

impl Store {
    /// The user with this number.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<Arc<UserRow>>> {
        self.users.load(id).await
    }

    /// At most `limit` users with numbers above `after`, in rising order. Who goes on from the last one misses nobody: with
    /// `after`, none is returned beyond a number that somebody may still be adding.
    pub(crate) async fn users(&self, after: Option<i64>, limit: i64) -> Result<Vec<UserRow>> {
        let from = after.unwrap_or(0);
        let rows = self.list(from, limit).await?;
        if self.settled.gap(from, &rows).is_none() {
            return Ok(rows);
        }
        // One at a time: what it finds out serves all.
        let _settling = self.settled.one.lock().await;
        let mut rows = self.list(from, limit).await?;
        let Some(gap) = self.settled.gap(from, &rows) else {
            return Ok(rows);
        };
        let newest = rows.last().map_or(from, UserRow::id);
        if self.settle(newest).await? {
            rows = self.list(from, limit).await?;
            rows.retain(|row| row.id() <= newest);
        } else if after.is_some() {
            rows.retain(|row| row.id() < gap);
        }
        Ok(rows)
    }

    async fn list(&self, after: i64, limit: i64) -> Result<Vec<UserRow>> {
        let (pool, list) = (&self.pool, &self.statements.list);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(list, &[&after, &limit]).await })
            .await?;
        Ok(rows.into_iter().map(UserRow).collect())
    }

    /// Waits, not for long, until all who were adding users when this was called have committed or given up. `newest` was
    /// read before: so whatever comes to be listed later has a greater number.
    async fn settle(&self, newest: i64) -> Result<bool> {
        let start = Instant::now();
        let mut adding = self.adding(None).await?;
        while !adding.is_empty() {
            if start.elapsed() >= WAIT {
                return Ok(self.settled.give_up(newest, Instant::now()));
            }
            sleep(LOOK).await;
            adding = self.adding(Some(adding)).await?;
        }
        self.settled.raise(newest);
        Ok(true)
    }

    /// The transactions that are changing the table, of these or of all.
    async fn adding(&self, of: Option<Vec<String>>) -> Result<Vec<String>> {
        let (pool, adding) = (&self.pool, &self.statements.adding);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(adding, &[&of]).await })
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Adds a user; `None` if the address is taken.
    pub(crate) async fn add_user(&self, name: &str, email: &str) -> Result<Option<UserRow>> {
        let (pool, key) = (&self.pool, email::key(email));
        let (add, parameters): (_, [&(dyn ToSql + Sync); 3]) = (&self.statements.add, [&name, &email, &key]);
        let added = pool
            .retry(|| async { pool.get().await?.query_one(add, &parameters).await })
            .await;
        match added {
            Ok(row) => Ok(Some(UserRow(row))),
            Err(error) if is_email_taken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A table that others made may have a constraint of its own beside our index. The other thing that is unique is the
/// number of a user.
fn is_email_taken(error: &Error) -> bool {
    let Error::Database(refused) = error else {
        return false;
    };
    let is_of_id = |detail: &str| detail.contains("(id)=");
    refused.code() == &SqlState::UNIQUE_VIOLATION && !refused.detail().is_some_and(is_of_id)
}
