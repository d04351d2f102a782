//! The row that says which Redis may be believed. Invariant: it has a connection of its own, so that a pool that has run
//! out does not cost the cache; and it changes only from one epoch to the next.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use cenote_cache::epoch::{Identity, Row};
use cenote_postgres::{Error, InvalidConfig, Pool, tokio_postgres::types::ToSql};

use crate::settings::SchemaName;

/// A standby tells what its primary has said some time ago. No Redis is trusted on its word: what is read from it may be
/// older than what others have written, and must not be stored for them.
const READ: &str = "SELECT epoch, CASE WHEN NOT pg_is_in_recovery() THEN trusted END, pg_is_in_recovery() \
     FROM {schema}.cache_epoch";
const ADVANCE: &str =
    "UPDATE {schema}.cache_epoch SET epoch = $1::bigint, trusted = $2 WHERE epoch = $1::bigint - 1";

/// The row, over a connection that is used for nothing else.
pub(super) struct Epoch {
    pool: Pool,
    read: String,
    advance: String,
    /// Polls since the server was last a standby, as far as that matters.
    since_standby: AtomicU8,
}

/// Once the server is no standby any more, the poll that says so must have been acted on before anybody writes: until
/// then no Redis is trusted here, and others may trust one.
const ACTED_ON: u8 = 2;

impl Epoch {
    /// Beside this pool; a question waits `within` so long for the connection and as long for its
    /// answer.
    pub(super) fn beside(
        pool: &Pool,
        within: Duration,
        schema: &SchemaName,
    ) -> Result<Self, InvalidConfig> {
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
            since_standby: AtomicU8::new(ACTED_ON),
        })
    }

    pub(super) async fn row(&self) -> Result<Row, Error> {
        let row = self.pool.get().await?.query_one(&self.read, &[]).await?;
        let (epoch, trusted): (i64, Option<&[u8]>) = (row.get(0), row.get(1));
        let since = match row.get(2) {
            true => 0,
            false => self
                .since_standby
                .load(Relaxed)
                .saturating_add(1)
                .min(ACTED_ON),
        };
        self.since_standby.store(since, Relaxed);
        let identity = trusted.and_then(|trusted| trusted.try_into().ok());
        Ok(Row {
            epoch: epoch.cast_unsigned(),
            trusted: identity.map(Identity),
        })
    }

    pub(super) async fn advance(&self, successor: Row) -> Result<(), Error> {
        let epoch = successor.epoch.cast_signed();
        let trusted = successor.trusted.map(|identity| identity.0);
        let trusted = trusted.as_ref().map(<[u8; 20]>::as_slice);
        let connection = self.pool.get().await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&epoch, &trusted];
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
