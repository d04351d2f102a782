//! The table of API keys, as the running service uses it.
//!
//! Invariant: keys are looked up over one separate connection and confirmed over another, so that neither an exhausted pool
//! nor a flood of unknown keys stops anything else. Each statement finds its rows by the primary key.

mod admin;

use std::time::Duration;

use cenote_postgres::{Error, InvalidConfig, Pool};

pub(crate) use self::admin::{Admin, AdminError, Bootstrap, Lifetime, ListedKey, NewKey, StoredKey, Which};
use crate::store::SchemaName;

/// The number of connections of [`ApiKeys`].
pub(crate) const CONNECTIONS: u32 = 2;

/// Longest wait for the connection, and again for the result of a statement.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A number that changes whenever a row changes in a way that matters to a caller. `last_used_at` does not.
macro_rules! stamp {
    () => {
        "hashtextextended(ROW(k.owner, k.name, k.scopes, k.limits, k.expires_at, k.revoked_at)::text, 0)"
    };
}

/// Finds one key. `$1`: its digest. Returns `owner, name, scopes, limits, expires, is_revoked, stamp`.
const FIND: &str = concat!(
    "/* api_key.find */ SELECT coalesce(k.owner, k.id), k.name, k.scopes, k.limits, floor(extract(epoch FROM k.expires_at))::bigint, \
     k.revoked_at IS NOT NULL, ",
    stamp!(),
    " FROM {schema}.api_keys k WHERE k.digest = $1"
);

/// Finds which of many keys have changed or are gone. `$1`: the digests, `$2`: their stamps. Returns the digests.
const CHANGED: &str = concat!(
    "/* api_key.changed */ SELECT known.digest FROM unnest($1::bytea[], $2::bigint[]) AS known (digest, stamp) \
     LEFT JOIN {schema}.api_keys k ON k.digest = known.digest WHERE known.stamp IS DISTINCT FROM ",
    stamp!(),
    " OR k.digest IS NULL"
);

/// Notes that keys were used in this minute. `$1`: the digests.
///
/// `ORDER BY … SKIP LOCKED`: instances that write the same keys neither wait for each other nor deadlock. A row that is
/// skipped is being written by another instance.
const USED: &str = "/* api_key.used */ UPDATE {schema}.api_keys SET last_used_at = date_trunc('minute', now()) WHERE digest IN \
     (SELECT digest FROM {schema}.api_keys WHERE digest = ANY($1) \
     AND (last_used_at IS NULL OR last_used_at < date_trunc('minute', now())) \
     ORDER BY digest FOR NO KEY UPDATE SKIP LOCKED)";

/// A key as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    /// The number of the first of the keys that replaced each other.
    pub(crate) owner: i64,
    pub(crate) name: String,
    pub(crate) scopes: String,
    pub(crate) limits: Option<String>,
    /// Seconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) is_revoked: bool,
    /// Changes with all of these.
    pub(crate) stamp: i64,
}

/// Access to the table, over separate connections.
pub(crate) struct ApiKeys {
    /// The connection of requests, which wait for each other.
    look_ups: Pool,
    /// The connection of the task that keeps known keys valid.
    confirmations: Pool,
    find: String,
    changed: String,
    used: String,
}

impl ApiKeys {
    /// Opens the connections beside `pool`, with the same configuration.
    pub(crate) fn beside(pool: &Pool, schema: &SchemaName) -> Result<Self, InvalidConfig> {
        Ok(Self {
            look_ups: pool.beside("auth", TIMEOUT)?,
            confirmations: pool.beside("auth confirm", TIMEOUT)?,
            find: schema.fill(FIND),
            changed: schema.fill(CHANGED),
            used: schema.fill(USED),
        })
    }

    /// Finds a key by its digest.
    pub(crate) async fn find(&self, digest: &[u8; 32]) -> Result<Option<KeyRow>, Error> {
        let connection = self.look_ups.get().await?;
        let row = connection.query_opt(&self.find, &[&&digest[..]]).await?;
        Ok(row.map(|row| KeyRow {
            owner: row.get(0),
            name: row.get(1),
            scopes: row.get(2),
            limits: row.get(3),
            expires: row.get(4),
            is_revoked: row.get(5),
            stamp: row.get(6),
        }))
    }

    /// Returns those of the keys that are no longer as they were.
    pub(crate) async fn changed(&self, known: &[([u8; 32], i64)]) -> Result<Vec<[u8; 32]>, Error> {
        let (digests, stamps): (Vec<&[u8]>, Vec<i64>) =
            known.iter().map(|(digest, stamp)| (&digest[..], *stamp)).unzip();
        let connection = self.confirmations.get().await?;
        let rows = connection.query(&self.changed, &[&digests, &stamps]).await?;
        let digest = |row: &tokio_postgres::Row| row.get::<_, &[u8]>(0).try_into().ok();
        Ok(rows.iter().filter_map(digest).collect())
    }

    /// Notes that keys were used.
    pub(crate) async fn used(&self, digests: &[[u8; 32]]) -> Result<(), Error> {
        let digests: Vec<&[u8]> = digests.iter().map(|digest| &digest[..]).collect();
        let connection = self.confirmations.get().await?;
        connection.execute(&self.used, &[&digests]).await?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.look_ups.close().await;
        self.confirmations.close().await;
    }
}
