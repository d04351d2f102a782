//! Trying again after failures that pass. Invariant: only errors that [`Error::is_retryable`] are
//! followed by another try.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

use crate::{Error, Result};

/// How often and how patiently to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Tries in all; 1 means none again.
    pub attempts: u32,
    /// Pause before the second try. It doubles with each further one, up to 30 s, and each is
    /// drawn at random between once and twice that.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            delay: Duration::from_secs(1),
        }
    }
}

impl Retry {
    pub(crate) async fn run<T, F, Fut>(self, work: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.delay)
            .with_max_delay(Duration::from_secs(30))
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        work.retry(pauses).when(Error::is_retryable).await
    }
}
