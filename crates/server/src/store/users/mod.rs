//! Users. Invariant: no two users have the same e-mail address, as [`email_key`] compares them. An index ensures it.

pub(super) mod email_key;
mod listing;

use std::sync::Arc;

use cenote_postgres::{
    Error, Limits, Loader, Pool, Result,
    tokio_postgres::{Row, error::SqlState, types::ToSql},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub(super) use self::listing::ListingWatermark;
use super::Store;
use crate::settings::SchemaName;

/// Reads many users. `$1`: their ids. The clauses are those of the statement that reads keys, see `keys/sql.rs`.
const GET: &str = "SELECT wanted.position, users.id::bigint, users.name, users.email \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, position) \
     JOIN {schema}.users ON users.id = wanted.id \
     WHERE wanted.position BETWEEN 1 AND 1000000000";
/// Adds a user. `$1`: the name, `$2`: the address, `$3`: its key, or null for an ASCII address.
const ADD: &str = "INSERT INTO {schema}.users (name, email, email_key) VALUES ($1, $2, $3) \
     RETURNING id::bigint, name, email";
/// The statements about users that one caller sends alone, with the schema filled in.
pub(super) struct UserSql {
    list: String,
    adding: String,
    add: String,
}

impl UserSql {
    pub(super) fn new(schema: &SchemaName) -> Self {
        Self {
            list: schema.fill(listing::LIST),
            adding: schema.fill(listing::ADDING),
            add: schema.fill(ADD),
        }
    }
}

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

    fn id(&self) -> i64 {
        self.0.get(self.0.len() - 3)
    }
}

impl Serialize for UserRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.user().serialize(serializer)
    }
}

/// Creates a loader of users for each home of the pool.
pub(super) fn loaders(pool: &Pool, limits: &Limits, schema: &SchemaName) -> Vec<Loader<i64, Arc<UserRow>>> {
    let user = |row| Ok(Arc::new(UserRow(row)));
    Loader::per_home(pool, schema.fill(GET), user, |_| size_of::<i64>(), limits)
}

impl Store {
    /// Reads the user with this id.
    pub(crate) async fn user(&self, id: i64) -> Result<Option<Arc<UserRow>>> {
        self.users.load(id).await
    }

    /// Adds a user. Returns `None` if another user has the address.
    pub(crate) async fn add_user(&self, name: &str, email: &str) -> Result<Option<UserRow>> {
        let (pool, key) = (&self.pool, email_key::key(email));
        let (add, parameters): (_, [&(dyn ToSql + Sync); 3]) = (&self.user_sql.add, [&name, &email, &key]);
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

/// Whether the address is taken. An adopted table may have another unique constraint on it than ours. A violation that names
/// the id is none: it means that the sequence is behind the table.
fn is_email_taken(error: &Error) -> bool {
    let Error::Database(refused) = error else {
        return false;
    };
    let is_of_id = |detail: &str| detail.contains("(id)=");
    refused.code() == &SqlState::UNIQUE_VIOLATION && !refused.detail().is_some_and(is_of_id)
}
