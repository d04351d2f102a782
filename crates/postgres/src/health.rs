//! Health checks. Invariant: a check takes at most a second and a half, whatever the database does.

use std::time::Duration;

use cenote_pool::HealthState;
use tokio::time::{Instant, timeout};

use crate::{Error, Pool, Reason, summarize};

/// The longest wait for a connection, and again for its answer.
const WAIT: Duration = Duration::from_millis(750);

/// A queue whose first caller has waited this long is standing: more callers come than are served. A shorter wait is an
/// ordinary peak.
const STANDING: Duration = Duration::from_millis(250);

/// The result of a health check.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// The verdict.
    pub state: HealthState,
    /// How long the answer took, including the wait for a connection. `None` if there was none.
    pub latency: Option<Duration>,
    /// What is wrong, as a short text without addresses or statements.
    pub problem: Option<String>,
}

impl Pool {
    /// Checks the database with an empty query over a pooled connection.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) {
    /// use cenote_postgres::HealthState;
    ///
    /// let health = pool.health().await;
    /// if health.state == HealthState::Unhealthy {
    ///     eprintln!("no database: {}", health.problem.unwrap_or_default());
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn health(&self) -> Health {
        let started = Instant::now();
        let asked = async {
            let connection = self.get_within(WAIT).await?;
            match timeout(WAIT, connection.ping()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Error::Lost {
                    cause: error.to_string().into(),
                }),
                Err(_) => Err(Error::Timeout(WAIT)),
            }
        };
        let answer = asked.await;
        let latency = started.elapsed();
        match answer {
            Ok(()) => self.judge(latency),
            Err(error) => Health {
                state: match &error {
                    // If all connections are in use, callers queue but are served. Otherwise the database cannot be
                    // reached.
                    Error::Acquire(refused) if is_only_busy(refused) => HealthState::Degraded,
                    _ => HealthState::Unhealthy,
                },
                latency: None,
                problem: Some(summary(&error)),
            },
        }
    }

    fn judge(&self, latency: Duration) -> Health {
        let limit = self.config().degraded_latency;
        let pool = self.stats().pool;
        let waiting = pool.waiting;
        let problem = if latency > limit {
            Some(format!("slower than {} ms", limit.as_millis()))
        } else if pool.longest_wait.is_some_and(|wait| wait >= STANDING) {
            Some(format!("{waiting} callers wait for a connection"))
        } else {
            None
        };
        Health {
            state: match problem {
                None => HealthState::Healthy,
                Some(_) => HealthState::Degraded,
            },
            latency: Some(latency),
            problem,
        }
    }
}

fn is_only_busy(refused: &crate::AcquireError) -> bool {
    let pool = refused.snapshot();
    let busy = pool.in_use > 0 && pool.last_connect_error.is_none();
    busy && !matches!(refused.reason(), Reason::Closed | Reason::Rejected)
}

/// A text without addresses, names or statements, because `/health` shows it to anyone.
fn summary(error: &Error) -> String {
    match error {
        Error::Acquire(refused) => match refused.reason() {
            Reason::Closed => "shutting down".to_owned(),
            Reason::Rejected => "a hook of the application failed".to_owned(),
            _ if is_only_busy(refused) => "all connections are in use".to_owned(),
            _ => match &refused.snapshot().last_connect_error {
                Some(error) => format!("cannot connect: {}", summarize(error)),
                None => "cannot connect".to_owned(),
            },
        },
        Error::Timeout(_) => "no answer in time".to_owned(),
        _ => "the connection was lost".to_owned(),
    }
}
