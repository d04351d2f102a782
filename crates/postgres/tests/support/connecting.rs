//! What becomes of the first connection that a pool opens.

use cenote_postgres::{Config, OwnedPooled, Pool};
use tokio::time::Instant;

use super::SOON;

/// A pool that opens connections when they are needed.
pub fn lazy(config: &mut Config) -> &mut Config {
    config.pool.min_size = 0;
    config
}

/// A connection, or why the first connect failed.
pub async fn first(pool: &Pool) -> Result<OwnedPooled, String> {
    let deadline = Instant::now() + SOON;
    let acquired = pool.get_owned();
    let failed = async {
        loop {
            let error = pool
                .get_within(std::time::Duration::from_millis(20))
                .await
                .err();
            let cause = error.and_then(|error| error.snapshot().last_connect_error.clone());
            if let Some(cause) = cause {
                return cause.to_string();
            }
            assert!(
                Instant::now() < deadline,
                "neither a connection nor an error"
            );
        }
    };
    tokio::select! {
        biased;
        acquired = acquired => Ok(acquired.unwrap()),
        cause = failed => Err(cause),
    }
}
