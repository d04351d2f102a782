//! Tries a Redis before it is used. Invariant: when this succeeds, everything that a cache does in its mode has been done once,
//! and nothing is left behind.

use std::sync::Arc;

use redis::PushInfo;

use crate::{
    config::{ConfigError, Mode, RedisConfig},
    redis::{
        ids::Ids,
        key_count::try_to_count,
        problem::RedisProblem,
        server::Server,
        session::{Session, SessionConfig},
    },
};

/// Why a Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The settings are refused; nothing was sent.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot be reached or used.
    #[error(transparent)]
    Redis(#[from] RedisProblem),
}

/// Connects to the mode's Redis as a cache does, in a cluster to all primaries: logs in, loads the scripts, writes and deletes a
/// cell, counts keys, and in `bounded` asks to be told of changes. Takes at most a few times [`RedisConfig::timeout`]. Does
/// nothing in modes without Redis.
///
/// # Errors
/// [`CheckError`] with the server's error text.
///
/// # Cancel safety
/// The connections are closed. A cell may be left for a second.
pub async fn check_redis(mode: &Mode) -> Result<(), CheckError> {
    let Some(redis) = mode.redis() else {
        return Ok(());
    };
    let ignored = |_: PushInfo| {};
    let listener = matches!(mode, Mode::Bounded { .. }).then_some(ignored);
    let session = Session::connect(&session_config(redis, &Ids::new())?, listener).await?;
    let counted = try_to_count(&session, &redis.prefix).await;
    Ok(counted.map_err(|problem| problem.at(&redis.servers[0]))?)
}

/// How a cache opens its sessions.
pub(crate) fn session_config(redis: &RedisConfig, ids: &Ids) -> Result<SessionConfig, ConfigError> {
    let probe = format!("{}::probe:{:x}", redis.prefix, ids.instance());
    Ok(SessionConfig {
        servers: Server::all(redis)?,
        timeout: redis.timeout,
        prefix: redis.prefix.clone(),
        probe: probe.into_bytes(),
        sightings: Arc::default(),
    })
}
