//! Users. Invariant: no two have the same e-mail address, upper and lower case aside; an index sees to that.

use cenote_postgres::{Error, Pool, Result, tokio_postgres::Row};

const GET: &str = "SELECT id, name, email FROM users WHERE id = $1";
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
    /// From a row of `id, name, email`.
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get(1),
            email: row.get(2),
        }
    }
}

/// The user with this number.
pub(crate) async fn get(pool: &Pool, id: i64) -> Result<Option<User>> {
    let row = pool
        .retry_idempotent(|| async { pool.get().await?.query_opt(GET, &[&id]).await })
        .await?;
    Ok(row.as_ref().map(User::from_row))
}

/// At most `limit` users with numbers above `after`, in rising order.
pub(crate) async fn list(pool: &Pool, after: i64, limit: i64) -> Result<Vec<User>> {
    let rows = pool
        .retry_idempotent(|| async { pool.get().await?.query(LIST, &[&after, &limit]).await })
        .await?;
    Ok(rows.iter().map(User::from_row).collect())
}

/// Adds a user; `None` if the address is taken.
pub(crate) async fn add(pool: &Pool, name: &str, email: &str) -> Result<Option<User>> {
    let added = pool
        .retry(|| async { pool.get().await?.query_one(ADD, &[&name, &email]).await })
        .await;
    match added {
        Ok(row) => Ok(Some(User::from_row(&row))),
        Err(error) if is_email_taken(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_email_taken(error: &Error) -> bool {
    error.constraint() == Some(EMAIL_KEY)
}
