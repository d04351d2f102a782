//! What the settings of the cache demand of Redis and of PostgreSQL.
//!
//! Invariant: the server itself ends a statement that changes keys before the fence of the change expires and, in the
//! modes with epochs, before the lease of the instance that sent it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_cache::{CheckError, ClientIdentity, Config, Mode, RedisConfig, RedisProblem};

use crate::{
    settings::{RedisFiles, Settings},
    store::{CacheMode, StoreError, api_keys},
};

/// Why the cache cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error(transparent)]
    Redis(#[from] CheckError),
    #[error("{name} {}: {error}", path.display())]
    File {
        name: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CacheError {
    /// Returns the problem with Redis, if that is the reason.
    pub(crate) fn redis(&self) -> Option<&RedisProblem> {
        match self {
            Self::Redis(CheckError::Redis(problem)) => Some(problem),
            _ => None,
        }
    }
}

/// Returns the configuration of the cache, with the certificates for Redis.
pub(crate) fn cache_config(settings: &Settings) -> Result<Config, CacheError> {
    let mut config = settings.cache.clone();
    let redis = match &mut config.mode {
        Mode::Strong(redis) | Mode::Bounded { redis, .. } | Mode::Ttl(redis) => redis,
        _ => return Ok(config),
    };
    add_certificates(redis, &settings.redis_files)?;
    Ok(config)
}

/// The Redis through which instances share the limits, with its certificates. `None` if they are not shared.
pub(crate) fn limits_redis(settings: &Settings) -> Result<Option<RedisConfig>, CacheError> {
    let mut redis = settings.limits_redis.clone();
    if let Some(redis) = &mut redis {
        add_certificates(redis, &settings.redis_files)?;
    }
    Ok(redis)
}

fn add_certificates(redis: &mut RedisConfig, files: &RedisFiles) -> Result<(), CacheError> {
    if let Some(path) = &files.authorities {
        redis.authorities = Some(read("REDIS_TLS_CA", path)?);
    }
    if let (Some(certificate), Some(key)) = (&files.certificate, &files.key) {
        redis.identity = Some(ClientIdentity {
            certificate: read("REDIS_TLS_CERT", certificate)?,
            key: read("REDIS_TLS_KEY", key)?.into(),
        });
    }
    Ok(())
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, CacheError> {
    fs::read(path).map_err(|error| CacheError::File {
        name,
        path: path.to_owned(),
        error,
    })
}

/// Returns the time after which the server must end a statement by itself; `None` if the cache does not depend on it.
pub(super) fn statement_limit(settings: &Settings) -> Option<Duration> {
    match settings.cache_mode {
        CacheMode::Off | CacheMode::Ttl => None,
        CacheMode::Local | CacheMode::Strong | CacheMode::Bounded => Some(settings.cache.timing.deadline()),
    }
}

/// Returns the number of connections to PostgreSQL that each instance has outside its pool: for the epoch, the change feed
/// and API keys.
pub(super) fn connections_beside_pool(settings: &Settings) -> u32 {
    let has_epochs = matches!(settings.cache_mode, CacheMode::Strong | CacheMode::Bounded);
    let api_keys = match settings.auth.mode.has_keys() {
        true => api_keys::CONNECTIONS,
        false => 0,
    };
    u32::from(has_epochs) + u32::from(settings.change_feed) + api_keys
}
