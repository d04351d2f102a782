//! Repeats work after failures that pass. Invariant: an error that does not pass by itself is never followed by another
//! attempt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::last_failure::{Failure, watch};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often work is repeated without a pause because a statement was stale. Each connection may have such a statement,
/// which it forgets when it meets it, so this bounds one pass through a large pool.
const STALE: u32 = 100;

/// The number of attempts and the pauses between them.
///
/// ```no_run
/// use std::time::Duration;
///
/// use cenote_postgres::{Config, Retry};
///
/// # fn example() -> Result<Config, cenote_postgres::InvalidConfig> {
/// let mut config = Config::from_env()?;
/// config.retry = Retry {
///     attempts: 5,
///     delay: Duration::from_millis(50), // then 100, 200 and 400, each up to twice as long
/// };
/// # Ok(config)
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Retry {
    /// The number of attempts; 1 means no retry.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles with each further one, up to 30 s. Each pause is a random time
    /// between once and twice that.
    #[cfg_attr(feature = "serde", serde(with = "cenote_pool::serde_duration"))]
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
    /// Runs `work` until it succeeds, fails in a way for which `when` is false, or no attempts are left.
    pub(crate) async fn run<T, E, F, Fut>(self, mut work: F, when: impl Fn(Failure) -> bool) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: 'static,
    {
        let mut tries = self.tries();
        loop {
            match watch(work()).await {
                Ok(output) => return Ok(output),
                Err((_, Some(failure))) if when(failure) && tries.again(failure).await => {}
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Returns the attempts that are left after the first.
    pub(crate) fn tries(self) -> Tries {
        Tries {
            retry: self,
            pauses: None,
            stale: STALE,
        }
    }
}

/// The remaining attempts and their pauses.
pub(crate) struct Tries {
    retry: Retry,
    /// Created when the first attempt failed, because few do.
    pauses: Option<ExponentialBackoff>,
    stale: u32,
}

impl Tries {
    /// Pauses before another attempt; after a stale statement without a pause. Returns false if no attempt is left.
    pub(crate) async fn again(&mut self, failure: impl Into<Failure>) -> bool {
        if failure.into().is_stale && self.stale > 0 {
            self.stale -= 1;
            return true;
        }
        let Retry { attempts, delay } = self.retry;
        let pauses = self.pauses.get_or_insert_with(|| {
            ExponentialBuilder::new()
                .with_min_delay(delay.min(LONGEST_PAUSE))
                .with_max_delay(LONGEST_PAUSE)
                .with_max_times(attempts.saturating_sub(1) as usize)
                .with_jitter()
                .build()
        });
        match pauses.next() {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }
}
