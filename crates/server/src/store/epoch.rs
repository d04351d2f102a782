//! The row that says which keyspace of which Redis is trusted. Invariant: it has a connection of its own, so that a pool
//! that has run out does not cost the cache; and its epoch only grows.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use cenote_cache::epoch::{Nonce, Row, Trust};
use cenote_postgres::{Error, InvalidConfig, Pool, tokio_postgres::types::ToSql};

use crate::settings::SchemaName;

/// The first decision counts as such for 10 s, by the server's own clock: a backup that is restored later does not bring
/// it back. A standby tells what its primary has said some time ago, so no Redis is trusted on its word: what is read from
/// it may be older than what others have written, and must not be stored for them.
const READ: &str = "SELECT epoch, is_decided, CASE WHEN NOT pg_is_in_recovery() THEN keyspace END, \
     coalesce(first_decided_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp(), false), \
     pg_is_in_recovery() \
     FROM {schema}.cache_epoch";
/// Only what trusts nothing may pass over epochs: it does so after the row went back.
const ADVANCE: &str = "UPDATE {schema}.cache_epoch \
     SET epoch = $1::bigint, is_decided = true, keyspace = $2, \
         first_decided_at = CASE WHEN $3::boolean THEN clock_timestamp() END \
     WHERE epoch = $1::bigint - 1 OR epoch < $1::bigint AND $2::bytea IS NULL";
/// Somebody has emptied the table. What takes its place trusts nothing: others may still act on what it held.
const REPLACE: &str = "INSERT INTO {schema}.cache_epoch (epoch, is_decided) \
     VALUES (floor(random() * 2 ^ 52)::bigint + 1, true) ON CONFLICT DO NOTHING";

/// The row, over a connection that is used for nothing else.
pub(super) struct Epoch {
    pool: Pool,
    read: String,
    advance: String,
    replace: String,
    /// Polls since the server was last a standby, as far as that matters.
    since_standby: AtomicU8,
}

/// Once the server is no standby any more, the poll that says so must have been acted on before anybody writes: until
/// then no Redis is trusted here, and others may trust one.
const ACTED_ON: u8 = 2;

impl Epoch {
    /// Beside this pool; a question waits `within` so long for the connection and as long for its
    /// answer.
    pub(super) fn beside(pool: &Pool, within: Duration, schema: &SchemaName) -> Result<Self, InvalidConfig> {
        let mut config = pool.config().clone();
        let name = config.server.get_application_name().unwrap_or("cenote");
        let name = format!("{name} epoch");
        config.server.application_name(name);
        config.pool.min_size = Some(1);
        config.pool.max_size = 1;
        config.pool.max_overflow = 0;
        config.pool.acquire_timeout = within;
        config.command_timeout = Some(within);
        // It would fill the log.
        config.echo = false;
        Ok(Self {
            pool: Pool::new(config)?,
            read: schema.fill(READ),
            advance: schema.fill(ADVANCE),
            replace: schema.fill(REPLACE),
            since_standby: AtomicU8::new(ACTED_ON),
        })
    }

    pub(super) async fn row(&self) -> Result<Row, Error> {
        let connection = self.pool.get().await?;
        let row = match connection.query_opt(&self.read, &[]).await? {
            Some(row) => row,
            None => {
                connection.execute(&self.replace, &[]).await?;
                connection.query_one(&self.read, &[]).await?
            }
        };
        let (epoch, is_decided): (i64, bool) = (row.get(0), row.get(1));
        let keyspace = row.get::<_, Option<&[u8]>>(2);
        let nonce = keyspace.and_then(|nonce| nonce.try_into().ok()).map(Nonce);
        let is_standby: bool = row.get(4);
        let since = match is_standby {
            true => 0,
            false => self.since_standby.load(Relaxed).saturating_add(1).min(ACTED_ON),
        };
        self.since_standby.store(since, Relaxed);
        Ok(Row {
            epoch: epoch.cast_unsigned(),
            trust: match nonce {
                _ if !is_decided => Trust::Undecided,
                Some(nonce) => Trust::Keyspace(nonce),
                None => Trust::Nothing,
            },
            is_first: row.get(3),
        })
    }

    pub(super) async fn advance(&self, successor: Row) -> Result<(), Error> {
        let epoch = successor.epoch.cast_signed();
        let keyspace = successor.keyspace();
        let keyspace = keyspace.as_ref().map(|nonce| &nonce.0[..]);
        let connection = self.pool.get().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&epoch, &keyspace, &successor.is_first];
        connection.execute(&self.advance, &parameters).await?;
        Ok(())
    }

    /// Whether the server is a standby, or was until a moment ago.
    pub(super) fn is_standby(&self) -> bool {
        self.since_standby.load(Relaxed) < ACTED_ON
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
