//! What becomes of the first connection that a pool opens.

use std::time::Duration;

use cenote_postgres::{AcquireError, Config, OwnedPooled, Pool};
use tokio::time::Instant;

use super::SOON;

/// A pool that opens connections when they are needed.
pub fn lazy(config: &mut Config) -> &mut Config {
    config.pool.min_size = Some(0);
    config
}

/// A connection, or why the first connect failed.
pub async fn first(pool: &Pool) -> Result<OwnedPooled, String> {
    let refused = tokio::select! {
        biased;
        acquired = pool.get_owned() => match acquired {
            Ok(connection) => return Ok(connection),
            Err(refused) => refused,
        },
        refused = refusal(pool) => refused,
    };
    let cause = refused.snapshot().last_connect_error.clone();
    Err(cause.unwrap().to_string())
}

/// What a caller is told once a connect has failed.
pub async fn refusal(pool: &Pool) -> AcquireError {
    let deadline = Instant::now() + SOON;
    loop {
        let taken = pool.get_within(Duration::from_millis(20)).await;
        if let Some(refused) = taken.err()
            && refused.snapshot().last_connect_error.is_some()
        {
            return refused;
        }
        let in_time = Instant::now() < deadline;
        assert!(in_time, "no connect has failed");
    }
}
