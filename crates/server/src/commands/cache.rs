//! From settings to a cache. Invariant: the server itself ends a statement that changes keys while the fence before it
//! stands and, where there are epochs, within the view of the one who sent it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_cache::{
    CheckError, ClientIdentity, Config, InvalidTiming, Mode, RedisConfig, RedisProblem, Timing, check_redis,
};
use cenote_postgres::{Error, Pool};

use super::Database;
use crate::{
    settings::{CacheFeed, CacheMode, CacheSettings, Settings},
    store::{Backlog, Store, StoreError, Tables, schema::Migration},
};

/// How long after `COMMAND_TIMEOUT` the server ends a statement by itself, whatever became of the cancel.
const BACKSTOP: Duration = Duration::from_secs(1);
/// The longest that PostgreSQL's `statement_timeout` can be.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
/// For how long it is kept that there is no value, as a part of `CACHE_TTL`, and at least.
const ABSENT: (u32, Duration) = (10, Duration::from_secs(1));

/// What the cache of keys is called in Redis.
const CACHE_NAME: &str = "kv";

/// Why the settings make no cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("REDIS_URL is not set")]
    NoRedis,
    #[error(transparent)]
    Redis(#[from] CheckError),
    #[error("{name} {}: {error}", path.display())]
    File {
        name: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(transparent)]
    Timing(#[from] InvalidTiming),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CacheError {
    /// What kind of problem there is with Redis, if that is it.
    pub(super) fn redis(&self) -> Option<&RedisProblem> {
        match self {
            Self::Redis(CheckError::Redis(problem)) => Some(problem),
            _ => None,
        }
    }
}

/// The stores over this database, one for each home of its pool.
pub(super) fn stores(database: &Database, settings: &Settings) -> Result<Vec<Store>, CacheError> {
    let config = config(settings)?;
    Ok(Store::per_runtime(&database.pool, config, &tables(settings))?)
}

fn tables(settings: &Settings) -> Tables {
    Tables {
        schema: settings.schema.clone(),
        backlog: Backlog {
            bytes: settings.pool.queue_bytes,
            wait: settings.pool.queue_wait,
        },
    }
}

/// What the settings need of the database's schema.
pub(super) fn migration(settings: &Settings) -> Migration {
    Migration {
        schema: settings.schema.clone(),
        with_feed: has_feed(settings),
    }
}

/// Tries the Redis of these settings as the cache will use it.
pub(super) async fn try_redis(settings: &Settings) -> Result<(), CacheError> {
    Ok(check_redis(&config(settings)?.mode).await?)
}

/// A store like it to try things with. It does not take part in what instances agree on, the epoch, so it harms none.
pub(super) fn trial(database: &Database, settings: &Settings) -> Result<Store, CacheError> {
    let mut config = config(settings)?;
    config.mode = match config.mode {
        Mode::Strong(redis) | Mode::Bounded { redis, .. } => Mode::Ttl(redis),
        mode => mode,
    };
    let mut stores = Store::per_runtime(&database.pool, config, &tables(settings))?;
    // The pool of a trial has one home.
    Ok(stores.swap_remove(0))
}

fn config(settings: &Settings) -> Result<Config, CacheError> {
    let cache = &settings.cache;
    let redis = || redis(cache);
    let mode = match cache.mode {
        CacheMode::Off => Mode::Off,
        CacheMode::Local => Mode::Local,
        CacheMode::Strong => Mode::Strong(redis()?),
        CacheMode::Bounded { max_staleness } => Mode::Bounded {
            redis: redis()?,
            max_staleness,
        },
        CacheMode::Ttl => Mode::Ttl(redis()?),
    };
    let mut config = Config::new(CACHE_NAME, mode);
    config.ttl = cache.ttl;
    config.absent_ttl = (cache.ttl / ABSENT.0).max(ABSENT.1).min(cache.ttl);
    config.near_bytes = cache.near_bytes as u64;
    config.stale_on_error = cache.stale_on_error;
    config.timing = timing(settings)?;
    Ok(config)
}

/// After what time the server is to end a statement by itself. None where nothing depends on it.
pub(super) fn statement_limit(settings: &Settings) -> Option<Duration> {
    match settings.cache.mode {
        CacheMode::Off | CacheMode::Ttl => None,
        CacheMode::Local => {
            let timeout = settings.statements.timeout;
            Some(timeout.saturating_add(BACKSTOP).min(LONGEST))
        }
        CacheMode::Strong | CacheMode::Bounded { .. } => Some(Timing::default().deadline()),
    }
}

/// Whether what bypasses the service is to be followed. Where nothing is cached there is nothing to drop.
pub(super) fn has_feed(settings: &Settings) -> bool {
    let cache = &settings.cache;
    cache.feed == CacheFeed::Notify && cache.mode != CacheMode::Off
}

/// Connections to PostgreSQL that each instance has beside its pool: for the epoch and for the change feed.
pub(super) fn beside_pool(settings: &Settings) -> u32 {
    let mode = settings.cache.mode;
    let has_epochs = matches!(mode, CacheMode::Strong | CacheMode::Bounded { .. });
    u32::from(has_epochs) + u32::from(has_feed(settings))
}

/// Whether the server does end statements in time: what stands between it and this process, such as a pooler of
/// connections, may not have passed the limit on.
pub(super) async fn check_limit(pool: &Pool, settings: &Settings) -> Result<(), String> {
    let Some(limit) = statement_limit(settings) else {
        return Ok(());
    };
    let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
    let asked = async { pool.get().await?.query_one(sql, &[]).await };
    let row = asked.await.map_err(|error: Error| error.to_string())?;
    let found: i64 = row.get(0);
    let wanted = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    match (1..=wanted).contains(&found) {
        true => Ok(()),
        false => Err(format!(
            "the server ends statements after {found} ms (0: never), not after {wanted} ms: it was not given the \
             startup parameter `options`. A write may take effect after it was answered as failed, unseen by the cache"
        )),
    }
}

fn timing(settings: &Settings) -> Result<Timing, InvalidTiming> {
    match (settings.cache.mode, statement_limit(settings)) {
        // One process needs no lease, and its fences may stand as long as it takes.
        (CacheMode::Local, Some(limit)) => Timing::new(limit * 2, limit, limit * 2),
        _ => Ok(Timing::default()),
    }
}

/// A node that belongs to a cluster leads to all of it, however it was named.
fn redis(cache: &CacheSettings) -> Result<RedisConfig, CacheError> {
    let servers = cache.redis.clone().ok_or(CacheError::NoRedis)?;
    let mut redis = RedisConfig::new(servers);
    let tls = &cache.redis_tls;
    if let Some(path) = &tls.authorities {
        redis.authorities = Some(read("REDIS_TLS_CA", path)?);
    }
    if let Some((certificate, key)) = &tls.identity {
        redis.identity = Some(ClientIdentity {
            certificate: read("REDIS_TLS_CERT", certificate)?,
            key: read("REDIS_TLS_KEY", key)?.into(),
        });
    }
    Ok(redis)
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, CacheError> {
    fs::read(path).map_err(|error| CacheError::File {
        name,
        path: path.to_owned(),
        error,
    })
}
