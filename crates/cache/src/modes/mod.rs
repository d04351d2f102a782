//! What each mode of [`Config`] does between a read and the database, and the tasks that keep the modes with Redis
//! going. Invariant: each mode alone decides what it may answer with.

pub(crate) mod background;
pub(crate) mod cache_aside;
pub(crate) mod local;
pub(crate) mod redis_mode;
pub(crate) mod redis_writes;

mod disagreement;
mod epoch_view;
mod poller;
mod reconnect;
mod redis_load;
mod row_reports;
mod trust_backoff;

use std::{sync::Arc, time::Duration};

use tokio::task::AbortHandle;

use crate::{
    config::{Config, ConfigError, MIN_STALENESS, Mode},
    near_cache::NearCache,
    origin::Origin,
    protocol::freshness::Staleness,
    redis::tracking::Tracking,
    stats::Counters,
};
use background::BackgroundTasks;
use cache_aside::CacheAside;
use local::Local;
use redis_mode::RedisMode;

/// A configured mode at work. [`Cache`](crate::Cache) dispatches on it.
pub(crate) enum ActiveMode {
    Off,
    Local(Arc<Local>),
    /// `strong` and `bounded`.
    Redis(Arc<RedisMode>),
    /// `ttl`.
    CacheAside(Arc<CacheAside>),
}

impl ActiveMode {
    /// Builds the mode of these settings. In modes with Redis, starts its tasks on the current runtime.
    pub(crate) fn start<O: Origin>(
        config: &Config,
        origin: &Arc<O>,
        counters: &Arc<Counters>,
    ) -> Result<(Self, Option<BackgroundTasks>), ConfigError> {
        let near = || NearCache::new(config.near_bytes, config.kept_for());
        Ok(match &config.mode {
            Mode::Off => (Self::Off, None),
            Mode::Local => {
                let local = Local::new(near(), config.timing.fence(), counters.clone());
                (Self::Local(Arc::new(local)), None)
            }
            Mode::Ttl(redis) => {
                let mode = RedisMode::new(config, redis, None, counters)?;
                let kept = mode.clone();
                let tasks = BackgroundTasks::start(Box::new(move || vec![spawn(reconnect::run(kept.clone(), None))]));
                (Self::CacheAside(Arc::new(CacheAside::new(mode))), Some(tasks))
            }
            Mode::Strong(redis) => {
                let mode = RedisMode::new(config, redis, None, counters)?;
                let tasks = session_and_epoch(&mode, origin, None);
                (Self::Redis(mode), Some(tasks))
            }
            Mode::Bounded { redis, max_staleness } => {
                let bound = *max_staleness;
                let staleness = Staleness::new(bound, Duration::ZERO)
                    .filter(|_| bound >= MIN_STALENESS)
                    .ok_or(ConfigError::Staleness(bound))?;
                let tracking = Tracking::new(near(), staleness, &redis.prefix, &config.name);
                let mode = RedisMode::new(config, redis, Some(tracking), counters)?;
                let tasks = session_and_epoch(&mode, origin, Some(bound));
                (Self::Redis(mode), Some(tasks))
            }
        })
    }
}

/// The tasks that keep a session with Redis and follow the epoch.
fn session_and_epoch<O: Origin>(
    mode: &Arc<RedisMode>,
    origin: &Arc<O>,
    max_staleness: Option<Duration>,
) -> BackgroundTasks {
    let (mode, origin) = (mode.clone(), origin.clone());
    BackgroundTasks::start(Box::new(move || {
        vec![
            spawn(reconnect::run(mode.clone(), max_staleness)),
            spawn(poller::run(mode.clone(), origin.clone())),
        ]
    }))
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}
