//! Waits for a Redis server or a cluster to reach a state. Invariant: it never waits for longer than a minute.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Result, command_failed};

const POLL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(60);

/// Repeats the check until it returns true. An error counts as false; the last one is part of the error at the limit.
pub(super) async fn wait_for<F>(what: &str, mut holds: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    loop {
        let answer = holds().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            let reason = match answer {
                Err(error) => format!("not within {LIMIT:?}: {what}; last error: {error}"),
                Ok(_) => format!("not within {LIMIT:?}: {what}"),
            };
            return Err(command_failed("redis", reason));
        }
        sleep(POLL).await;
    }
}
