//! The row that says which Redis may be believed. Invariant: it has a connection of its own, so that a pool that has run
//! out does not cost the cache; and it changes only from one epoch to the next.

use std::time::Duration;

use cenote_cache::epoch::{Identity, Row};
use cenote_postgres::{Error, InvalidConfig, Pool};

const READ: &str = "SELECT epoch, trusted FROM cache_epoch";
const ADVANCE: &str =
    "UPDATE cache_epoch SET epoch = $1::bigint, trusted = $2 WHERE epoch = $1::bigint - 1";

/// The row, over a connection that is used for nothing else.
pub(super) struct Epoch(Pool);

impl Epoch {
    /// Beside this pool; a question waits `within` so long for the connection and as long for its
    /// answer.
    pub(super) fn beside(pool: &Pool, within: Duration) -> Result<Self, InvalidConfig> {
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
        Ok(Self(Pool::new(config)?))
    }

    pub(super) async fn row(&self) -> Result<Row, Error> {
        let row = self.0.get().await?.query_one(READ, &[]).await?;
        let (epoch, trusted): (i64, Option<&[u8]>) = (row.get(0), row.get(1));
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
        let connection = self.0.get().await?;
        connection.execute(ADVANCE, &[&epoch, &trusted]).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}
