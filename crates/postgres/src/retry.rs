//! Trying again after failures that pass. Invariant: an error that does not pass by itself is not
//! followed by another try.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::{Error, Result};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often work is repeated at once because a statement was stale. Each connection may have such a statement, and
/// forgets it when it is met.
const STALE: u32 = 100;

/// How often and how patiently to try again.
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
    pub(crate) async fn run<T, F, Fut>(self, mut work: F, when: impl Fn(&Error) -> bool) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut tries = self.tries();
        loop {
            match work().await {
                Err(error) if when(&error) && tries.again(&error).await => {}
                result => return result,
            }
        }
    }

    /// The tries that are left after the first.
    pub(crate) fn tries(self) -> Tries {
        Tries {
            retry: self,
            pauses: None,
            stale: STALE,
        }
    }
}

/// How often to try again, and the pauses before it.
pub(crate) struct Tries {
    retry: Retry,
    /// Made when the first try failed, as few do.
    pauses: Option<ExponentialBackoff>,
    stale: u32,
}

impl Tries {
    /// Pauses before another try, unless the error has nothing to wait for; false if there were enough.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        if matches!(error, Error::Stale(_)) && self.stale > 0 {
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
