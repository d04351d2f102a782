//! Users. Invariant: no two have the same e-mail address, as `email` compares them; an index sees to that.

use std::sync::Arc;

use cenote_postgres::{
    Error, Limits, Loader, Pool, Result,
    tokio_postgres::{Row, error::SqlState, types::ToSql},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{Store, email};

/// Many users at once; see the query for keys about the bounds.
const GET: &str = "SELECT wanted.position, users.id, users.name, users.email \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) \
     JOIN users ON users.id = wanted.id \
     WHERE wanted.position BETWEEN 1 AND 1000000000";
const LIST: &str = "SELECT id, name, email FROM users WHERE id > $1 ORDER BY id LIMIT $2";
const ADD: &str =
    "INSERT INTO users (name, email, email_key) VALUES ($1, $2, $3) RETURNING id, name, email";

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User<'a> {
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

impl Serialize for UserRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.user().serialize(serializer)
    }
}

/// Looks users up, many callers' at a time.
pub(super) fn loaders(pool: &Pool, limits: &Limits) -> Vec<Loader<i64, Arc<UserRow>>> {
    let user = |row| Arc::new(UserRow(row));
    Loader::per_home(pool, GET, user, |_| size_of::<i64>(), limits)
}

impl Store {
    /// The user with this number.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<Arc<UserRow>>> {
        self.users.load(id).await
    }

    /// At most `limit` users with numbers above `after`, in rising order.
    pub(crate) async fn users(&self, after: i64, limit: i64) -> Result<Vec<UserRow>> {
        let pool = &self.pool;
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(LIST, &[&after, &limit]).await })
            .await?;
        Ok(rows.into_iter().map(UserRow).collect())
    }

    /// Adds a user; `None` if the address is taken.
    pub(crate) async fn add_user(&self, name: &str, email: &str) -> Result<Option<UserRow>> {
        let (pool, key) = (&self.pool, email::key(email));
        let parameters: [&(dyn ToSql + Sync); 3] = [&name, &email, &key];
        let added = pool
            .retry(|| async { pool.get().await?.query_one(ADD, &parameters).await })
            .await;
        match added {
            Ok(row) => Ok(Some(UserRow(row))),
            Err(error) if is_email_taken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_email_taken(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNIQUE_VIOLATION)
        && error
            .constraint()
            .is_some_and(|name| name.contains("email"))
}
