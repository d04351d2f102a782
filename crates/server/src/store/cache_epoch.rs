//! The row of `cache_epoch`, which says which keyspace of which Redis is trusted; see docs/coherence.md.
//!
//! Invariant: the epoch only grows. The row is read over a separate connection, so that an exhausted pool does not stop the
//! cache.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use cenote_cache::{EpochRow, Nonce, Trust};
use cenote_postgres::{Error, InvalidConfig, Pool, tokio_postgres::types::ToSql};

use crate::store::SchemaName;

/// Reads the row. Returns `epoch, is_decided, keyspace, is_first, is_standby`.
///
/// - `first_decided_at BETWEEN …`: the first decision counts as the first for 10 s by the server's own clock, so a restored
///   backup does not bring it back.
/// - `NOT pg_is_in_recovery()`: a standby's row may be old, and so may the values read from it. No Redis is trusted because
///   of a standby, so that such values are not stored for other instances.
const READ: &str = "/* epoch.read */ SELECT epoch, is_decided, CASE WHEN NOT pg_is_in_recovery() THEN keyspace END, \
     coalesce(first_decided_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp(), false), \
     pg_is_in_recovery() \
     FROM {schema}.cache_epoch";
/// Moves the row to the next epoch. `$1`: the epoch; `$2`: the keyspace, or null to trust none; `$3`: whether this is the
/// first decision.
///
/// The epoch grows by one, so of several instances that decide at once only one succeeds. Only a row that trusts nothing may
/// skip epochs: that repairs a row that a restored backup set back.
const ADVANCE: &str = "/* epoch.advance */ UPDATE {schema}.cache_epoch \
     SET epoch = $1::bigint, is_decided = true, keyspace = $2, \
         first_decided_at = CASE WHEN $3::boolean THEN clock_timestamp() END \
     WHERE epoch = $1::bigint - 1 OR epoch < $1::bigint AND $2::bytea IS NULL";
/// Inserts a new row after the table was emptied. It trusts nothing, because other instances may still act on the old row.
/// `floor(random() * 2 ^ 52)` makes it unlikely that an epoch is used twice.
const REPLACE: &str = "/* epoch.replace */ INSERT INTO {schema}.cache_epoch (epoch, is_decided) \
     VALUES (floor(random() * 2 ^ 52)::bigint + 1, true) ON CONFLICT DO NOTHING";

/// Access to the row, over a separate connection.
pub(super) struct CacheEpoch {
    pool: Pool,
    read_sql: String,
    advance_sql: String,
    replace_sql: String,
    /// The number of reads since the server was last a standby, at most [`ENOUGH_READS`]. Relaxed: it guards no memory.
    since_standby: AtomicU8,
}

/// After a promotion, two reads must pass before writes are accepted: when the second begins, the first has been acted on.
/// Until then this instance trusts no Redis, while others may already trust one.
const ENOUGH_READS: u8 = 2;

impl CacheEpoch {
    /// Opens the connection beside `pool`, with the same configuration. A query waits for at most `timeout` for the
    /// connection, and as long again for its result.
    pub(super) fn beside(pool: &Pool, timeout: Duration, schema: &SchemaName) -> Result<Self, InvalidConfig> {
        Ok(Self {
            pool: pool.beside("epoch", timeout)?,
            read_sql: schema.fill(READ),
            advance_sql: schema.fill(ADVANCE),
            replace_sql: schema.fill(REPLACE),
            since_standby: AtomicU8::new(ENOUGH_READS),
        })
    }

    /// Reads the row, and inserts a new one if there is none.
    pub(super) async fn read(&self) -> Result<EpochRow, Error> {
        let connection = self.pool.get().await?;
        let row = match connection.query_opt(&self.read_sql, &[]).await? {
            Some(row) => row,
            None => {
                connection.execute(&self.replace_sql, &[]).await?;
                connection.query_one(&self.read_sql, &[]).await?
            }
        };
        let (epoch, is_decided): (i64, bool) = (row.get(0), row.get(1));
        let keyspace = row.get::<_, Option<&[u8]>>(2);
        let nonce = keyspace.and_then(|nonce| nonce.try_into().ok()).map(Nonce);
        let is_standby: bool = row.get(4);
        let since = match is_standby {
            true => 0,
            false => self.since_standby.load(Relaxed).saturating_add(1).min(ENOUGH_READS),
        };
        self.since_standby.store(since, Relaxed);
        Ok(EpochRow {
            epoch: epoch.cast_unsigned(),
            trust: match nonce {
                _ if !is_decided => Trust::Undecided,
                Some(nonce) => Trust::Keyspace(nonce),
                None => Trust::Nothing,
            },
            is_first: row.get(3),
        })
    }

    /// Moves the row to `successor`. Does nothing if another instance was faster.
    pub(super) async fn advance(&self, successor: EpochRow) -> Result<(), Error> {
        let epoch = successor.epoch.cast_signed();
        let keyspace = successor.keyspace();
        let keyspace = keyspace.as_ref().map(|nonce| &nonce.0[..]);
        let connection = self.pool.get().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&epoch, &keyspace, &successor.is_first];
        connection.execute(&self.advance_sql, &parameters).await?;
        Ok(())
    }

    /// Whether the server is a standby, or was one until two reads ago.
    pub(super) fn is_standby(&self) -> bool {
        self.since_standby.load(Relaxed) < ENOUGH_READS
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
