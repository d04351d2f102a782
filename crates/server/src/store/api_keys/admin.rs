//! What operators do with API keys: create, list, rotate, revoke.
//!
//! Invariant: each change is one transaction, and returns what it changed.

use std::time::Duration;

use cenote_postgres::{Error, Pool, Transaction, tokio_postgres::Row};

use crate::store::SchemaName;

/// `$1`: digest, `$2`: name, `$3`: scopes, `$4`: limits, `$5`: hint, `$6`: seconds until it expires, or null. Returns what
/// [`StoredKey`] holds.
const CREATE: &str = "INSERT INTO {schema}.api_keys (digest, name, scopes, limits, hint, expires_at) \
     VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6)) \
     RETURNING id, name, scopes, hint, to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// Finds keys that are valid. `$1`: number, `$2`: digest, `$3`: name; two of them are null.
const FIND_VALID: &str = "SELECT id FROM {schema}.api_keys WHERE (id = $1 OR digest = $2 OR name = $3) \
     AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) ORDER BY id";

/// Creates a key like another one, which expires soon. `$1`: the number of the old key, `$2`: digest, `$3`: hint, `$4`:
/// seconds until the old key expires, `$5`: whether `$6` says when the new one does, `$6`: in how many seconds, or null.
/// Otherwise the new key lives as long as the old one was meant to.
const ROTATE: &str = "WITH old AS (SELECT * FROM {schema}.api_keys WHERE id = $1 AND revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > now()) FOR UPDATE), \
     ended AS (UPDATE {schema}.api_keys k SET expires_at = least(k.expires_at, now() + make_interval(secs => $4)) \
         FROM old WHERE k.digest = old.digest) \
     INSERT INTO {schema}.api_keys (digest, owner, name, scopes, limits, hint, expires_at) \
     SELECT $2, coalesce(owner, id), name, scopes, limits, $3, \
         CASE WHEN $5::boolean THEN now() + make_interval(secs => $6) ELSE now() + (expires_at - created_at) END FROM old \
     RETURNING id, name, scopes, hint, to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// `$1`: number, `$2`: digest, `$3`: name; two of them are null.
const REVOKE: &str = "UPDATE {schema}.api_keys SET revoked_at = now() \
     WHERE (id = $1 OR digest = $2 OR name = $3) AND revoked_at IS NULL \
     RETURNING id, name, scopes, hint, to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

const LIST: &str = "SELECT id, name, scopes, hint, limits, \
     to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
     to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
     to_char(last_used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"'), \
     CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END \
     FROM {schema}.api_keys ORDER BY id";

/// Keeps others from creating a first key at the same time. Reads go on.
const LOCK: &str = "LOCK TABLE {schema}.api_keys IN SHARE ROW EXCLUSIVE MODE";
const EXISTS: &str = "SELECT EXISTS (SELECT FROM {schema}.api_keys)";
/// `$1`: digest.
const HAS: &str = "SELECT EXISTS (SELECT FROM {schema}.api_keys WHERE digest = $1)";

/// Which keys are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Id(i64),
    Digest([u8; 32]),
    Name(String),
}

/// A key to store.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub(crate) digest: [u8; 32],
    /// Its first characters.
    pub(crate) hint: String,
    pub(crate) name: String,
    /// Separated by commas.
    pub(crate) scopes: String,
    pub(crate) limits: Option<String>,
    /// The time until it expires.
    pub(crate) expires: Option<Duration>,
}

/// When a key that replaces another one expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// After as long as the other one was meant to live.
    AsBefore,
    In(Duration),
    Never,
}

/// A key as it was stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) scopes: String,
    pub(crate) hint: String,
    pub(crate) expires: Option<String>,
}

/// A key as it is listed. Times are in UTC.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct ListedKey {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) scopes: String,
    pub(crate) hint: String,
    pub(crate) limits: Option<String>,
    pub(crate) created: String,
    pub(crate) expires: Option<String>,
    pub(crate) last_used: Option<String>,
    pub(crate) state: String,
}

/// Why a change of keys failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("no valid key is meant; `cenote key list` shows them")]
    None,
    #[error("several valid keys are meant, with the numbers {}; name one of them", join(.0))]
    Several(Vec<i64>),
}

/// What became of the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bootstrap {
    Created,
    /// There are keys already.
    NotNeeded,
}

/// Changes the table over the service's pool.
pub(crate) struct Admin<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) schema: &'a SchemaName,
}

impl Admin<'_> {
    pub(crate) async fn create(&self, key: &NewKey) -> Result<StoredKey, AdminError> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.transaction().await?;
        let stored = self.insert(&transaction, key).await?;
        transaction.commit().await?;
        Ok(stored)
    }

    async fn insert(&self, transaction: &Transaction<'_>, key: &NewKey) -> Result<StoredKey, AdminError> {
        let NewKey {
            digest,
            hint,
            name,
            scopes,
            limits,
            expires,
        } = key;
        let expires = expires.map(|after| after.as_secs_f64());
        let sql = self.schema.fill(CREATE);
        let row = transaction
            .query_one(&sql, &[&&digest[..], name, scopes, limits, hint, &expires])
            .await?;
        Ok(StoredKey::of(&row))
    }

    pub(crate) async fn list(&self) -> Result<Vec<ListedKey>, AdminError> {
        let connection = self.pool.get().await?;
        let rows = connection.query(&self.schema.fill(LIST), &[]).await?;
        let listed = |row: &Row| ListedKey {
            id: row.get(0),
            name: row.get(1),
            scopes: row.get(2),
            hint: row.get(3),
            limits: row.get(4),
            created: row.get(5),
            expires: row.get(6),
            last_used: row.get(7),
            state: row.get(8),
        };
        Ok(rows.iter().map(listed).collect())
    }

    /// Creates a key like the one that is meant, which goes on for `overlap`.
    pub(crate) async fn rotate(
        &self,
        which: &Which,
        digest: &[u8; 32],
        hint: &str,
        overlap: Duration,
        lifetime: Lifetime,
    ) -> Result<StoredKey, AdminError> {
        let connection = self.pool.get().await?;
        let (id, old_digest, name) = which.parameters();
        let found = connection
            .query(&self.schema.fill(FIND_VALID), &[&id, &old_digest, &name])
            .await?;
        let ids: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
        let old = match &ids[..] {
            [] => return Err(AdminError::None),
            [one] => *one,
            _ => return Err(AdminError::Several(ids)),
        };
        let (is_given, expires) = match lifetime {
            Lifetime::AsBefore => (false, None),
            Lifetime::Never => (true, None),
            Lifetime::In(after) => (true, Some(after.as_secs_f64())),
        };
        let (overlap, sql) = (overlap.as_secs_f64(), self.schema.fill(ROTATE));
        let row = connection
            .query_opt(&sql, &[&old, &&digest[..], &hint, &overlap, &is_given, &expires])
            .await?;
        // It may have been revoked a moment ago.
        row.as_ref().map(StoredKey::of).ok_or(AdminError::None)
    }

    /// Revokes all keys that are meant and are not revoked yet. Returns them by number.
    pub(crate) async fn revoke(&self, which: &Which) -> Result<Vec<StoredKey>, AdminError> {
        let connection = self.pool.get().await?;
        let (id, digest, name) = which.parameters();
        let rows = connection
            .query(&self.schema.fill(REVOKE), &[&id, &digest, &name])
            .await?;
        if rows.is_empty() {
            return Err(AdminError::None);
        }
        let mut revoked: Vec<_> = rows.iter().map(StoredKey::of).collect();
        revoked.sort_by_key(|key| key.id);
        Ok(revoked)
    }

    /// Whether there is any key, valid or not.
    pub(crate) async fn any(&self) -> Result<bool, AdminError> {
        let connection = self.pool.get().await?;
        Ok(connection.query_one(&self.schema.fill(EXISTS), &[]).await?.get(0))
    }

    /// Whether there is a key with this digest, valid or not.
    pub(crate) async fn has(&self, digest: &[u8; 32]) -> Result<bool, AdminError> {
        let connection = self.pool.get().await?;
        Ok(connection
            .query_one(&self.schema.fill(HAS), &[&&digest[..]])
            .await?
            .get(0))
    }

    /// Creates the first key, unless there is one. `key` is called only if there is none, and while no other instance can
    /// create one: of several that start at once, one calls it.
    pub(crate) async fn bootstrap<E>(
        &self,
        key: impl FnOnce() -> Result<NewKey, E>,
    ) -> Result<Result<Bootstrap, E>, AdminError> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(&self.schema.fill(LOCK)).await?;
        let exists = transaction.query_one(&self.schema.fill(EXISTS), &[]).await?;
        if exists.get(0) {
            return Ok(Ok(Bootstrap::NotNeeded));
        }
        let key = match key() {
            Ok(key) => key,
            Err(error) => return Ok(Err(error)),
        };
        self.insert(&transaction, &key).await?;
        transaction.commit().await?;
        Ok(Ok(Bootstrap::Created))
    }
}

impl Which {
    fn parameters(&self) -> (Option<i64>, Option<&[u8]>, Option<&str>) {
        match self {
            Self::Id(id) => (Some(*id), None, None),
            Self::Digest(digest) => (None, Some(digest), None),
            Self::Name(name) => (None, None, Some(name)),
        }
    }
}

impl StoredKey {
    fn of(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get(1),
            scopes: row.get(2),
            hint: row.get(3),
            expires: row.get(4),
        }
    }
}

fn join(ids: &[i64]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}
