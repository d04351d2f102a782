//! What becomes of the first connection that a pool opens.

use std::time::Duration;

use cenote_postgres::{AcquireError, Config, Error, OwnedPooled, Pool};

use super::until_ok;

/// Lets a pool open connections only when they are needed.
pub fn lazy(config: &mut Config) -> &mut Config {
    config.pool.min_size = Some(0);
    config
}

/// The first connection, or why the first connect failed.
pub async fn first(pool: &Pool) -> Result<OwnedPooled, String> {
    let refused = tokio::select! {
        biased;
        acquired = pool.get_owned() => match acquired {
            Ok(connection) => return Ok(connection),
            Err(Error::Acquire(refused)) => refused,
            Err(other) => return Err(other.to_string()),
        },
        refused = refusal(pool) => refused,
    };
    let cause = refused.snapshot().last_connect_error.clone();
    Err(cause.unwrap().to_string())
}

/// The error of a caller once a connect has failed.
pub async fn refusal(pool: &Pool) -> AcquireError {
    until_ok("a connect fails", async || {
        let acquired = pool.get_within(Duration::from_millis(20)).await.map(drop);
        match acquired {
            Err(Error::Acquire(refused)) if refused.snapshot().last_connect_error.is_some() => Ok(refused),
            other => Err(other),
        }
    })
    .await
}

/// Why no connection was acquired.
pub fn refused<T>(acquired: Result<T, Error>) -> AcquireError {
    match acquired {
        Err(Error::Acquire(refused)) => refused,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was acquired"),
    }
}
