//! Users. Invariant: no two have the same e-mail address, upper and lower case aside; an index sees to that.

use std::sync::Arc;

use cenote_postgres::{Error, Limits, Loader, Pool, Result, tokio_postgres::Row};

use super::Store;

/// Many users at once; see the query for keys about the bounds.
const GET: &str = "SELECT wanted.position, users.id, users.name, users.email \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) \
     JOIN users ON users.id = wanted.id \
     WHERE wanted.position BETWEEN 1 AND 1000000000";
const LIST: &str = "SELECT id, name, email FROM users WHERE id > $1 ORDER BY id LIMIT $2";
const ADD: &str = "INSERT INTO users (name, email) VALUES ($1, $2) RETURNING id, name, email";
/// The index that keeps addresses apart.
const EMAIL_KEY: &str = "users_email_key";

/// A user.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct User {
    pub(crate) id: i64,
    #[schema(example = "Ada")]
    pub(crate) name: String,
    #[schema(example = "ada@example.org")]
    pub(crate) email: String,
}

impl User {
    /// From a row with `id, name, email` beginning at column `first`.
    fn from_row(row: &Row, first: usize) -> Self {
        Self {
            id: row.get(first),
            name: row.get(first + 1),
            email: row.get(first + 2),
        }
    }
}

/// Looks users up, many callers' at a time.
pub(super) fn loaders(pool: &Pool, limits: &Limits) -> Vec<Loader<i64, Arc<User>>> {
    let user = |row: &Row| Arc::new(User::from_row(row, 1));
    Loader::per_home(pool, GET, user, |_| size_of::<i64>(), limits)
}

impl Store {
    /// The user with this number.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<Arc<User>>> {
        self.users.load(id).await
    }

    /// At most `limit` users with numbers above `after`, in rising order.
    pub(crate) async fn users(&self, after: i64, limit: i64) -> Result<Vec<User>> {
        let pool = &self.pool;
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(LIST, &[&after, &limit]).await })
            .await?;
        Ok(rows.iter().map(|row| User::from_row(row, 0)).collect())
    }

    /// Adds a user; `None` if the address is taken.
    pub(crate) async fn add_user(&self, name: &str, email: &str) -> Result<Option<User>> {
        let pool = &self.pool;
        let added = pool
            .retry(|| async { pool.get().await?.query_one(ADD, &[&name, &email]).await })
            .await;
        match added {
            Ok(row) => Ok(Some(User::from_row(&row, 0))),
            Err(error) if is_email_taken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_email_taken(error: &Error) -> bool {
    error.constraint() == Some(EMAIL_KEY)
}
