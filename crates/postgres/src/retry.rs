//! Trying again after failures that pass. Invariant: an error that does not pass by itself is not
//! followed by another try.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::{Error, Result};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    /// Runs `work` until it succeeds, fails with an error for which `when` is false, or has been
    /// tried often enough.
    pub(crate) async fn run<T, F, Fut>(
        self,
        mut work: F,
        when: impl Fn(&Error) -> bool,
    ) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut result = work().await;
        if result.is_ok() {
            return result;
        }
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.delay)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        for pause in pauses {
            if !result.as_ref().is_err_and(&when) {
                break;
            }
            tokio::time::sleep(pause).await;
            result = work().await;
        }
        result
    }
}
