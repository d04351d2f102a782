//! What an administrator can do to a running service: pause and resume the pool, resize it, take a host out of use, change
//! the log, drop what is cached, and read the settings again.
//!
//! Invariant: each action is idempotent, takes effect on all cores, and answers with the state that it leaves behind.

mod pause;
mod reload;

use std::time::Duration;

use cenote_postgres::{HostState, InvalidConfig, Limits, Pool};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, time::Instant};
use utoipa::ToSchema;

use self::pause::Pause;
pub(crate) use self::reload::{Fault, ReloadRefused, ReloadRequest, Reloaded, Reloads};
use crate::telemetry;

/// How long [`Admin::pause`] waits for the connections in use.
const PATIENCE: Duration = Duration::from_secs(2);

/// The actions on one service.
#[derive(Debug)]
pub(crate) struct Admin {
    pool: Pool,
    pause: Pause,
    reloads: Reloads,
}

/// What an administrator can change, as it is now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AdminState {
    /// Whether the pool hands out no connections.
    pub(crate) paused: bool,
    /// Seconds until it resumes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resumes_in_s: Option<f64>,
    /// Connections in use.
    pub(crate) in_use: u32,
    /// The least number of connections that are kept open.
    pub(crate) min: u32,
    /// The largest number of connections, without the overflow.
    pub(crate) max: u32,
    /// Further connections under load.
    pub(crate) overflow: u32,
    /// The hosts of the database.
    pub(crate) hosts: Vec<DatabaseHost>,
    /// The filter of the log.
    pub(crate) log: String,
}

/// A host of the database.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DatabaseHost {
    #[schema(example = "db-1.internal:5432")]
    pub(crate) host: String,
    /// Whether it was taken out of use.
    pub(crate) drained: bool,
}

impl From<HostState> for DatabaseHost {
    fn from(host: HostState) -> Self {
        Self {
            host: host.name,
            drained: host.is_drained,
        }
    }
}

impl Admin {
    /// `runtime` lives as long as the service.
    pub(crate) fn of(pool: &Pool, runtime: &Handle, reloads: Reloads) -> Self {
        Self {
            pool: pool.clone(),
            pause: Pause::of(pool, runtime),
            reloads,
        }
    }

    /// Asks for reloads of the settings.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    pub(crate) fn state(&self) -> AdminState {
        let stats = self.pool.stats().pool;
        let limits = self.pool.limits();
        let end = self.pause.ends_at().filter(|_| stats.paused);
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        AdminState {
            paused: stats.paused,
            resumes_in_s: left.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0),
            in_use: stats.in_use,
            min: limits.min_size.unwrap_or_default(),
            max: limits.max_size,
            overflow: limits.max_overflow,
            hosts: self.pool.hosts().into_iter().map(DatabaseHost::from).collect(),
            log: telemetry::filter(),
        }
    }

    /// When the pause ends; `None` if the pool is not paused.
    pub(crate) fn pause_ends_at(&self) -> Option<Instant> {
        self.pause.ends_at()
    }

    /// Stops handing out connections for this time, and waits up to two seconds for those in use.
    pub(crate) async fn pause(&self, time: Duration) -> AdminState {
        self.pause.begin(time, PATIENCE).await;
        self.state()
    }

    pub(crate) fn resume(&self) -> AdminState {
        self.pause.end();
        self.state()
    }

    /// Changes the limits that are given.
    ///
    /// # Errors
    ///
    /// They contradict each other. Nothing changes then.
    pub(crate) fn resize(
        &self,
        min: Option<u32>,
        max: Option<u32>,
        overflow: Option<u32>,
    ) -> Result<AdminState, InvalidConfig> {
        let before = self.pool.limits();
        self.pool.resize(Limits {
            min_size: min.or(before.min_size),
            max_size: max.unwrap_or(before.max_size),
            max_overflow: overflow.unwrap_or(before.max_overflow),
        })?;
        Ok(self.state())
    }

    /// Takes a host of the database out of use, or back. Returns `None` if there is no such host.
    pub(crate) fn drain_host(&self, host: &str, drained: bool) -> Option<AdminState> {
        let known = match drained {
            true => self.pool.drain_host(host),
            false => self.pool.restore_host(host),
        };
        known.then(|| self.state())
    }

    /// Changes the filter of the log.
    ///
    /// # Errors
    ///
    /// What is wrong with the filter. Nothing changes then.
    pub(crate) fn set_log(&self, filter: &str) -> Result<AdminState, String> {
        telemetry::set_filter(filter)?;
        Ok(self.state())
    }
}
