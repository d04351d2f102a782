//! Runs one script of the application on the Redis that a cache uses. Invariant: it never reconnects; after the first error it
//! is of no more use.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    config::RedisConfig,
    redis::{
        check::CheckError,
        connection::Connection,
        problem::{RedisProblem, RedisProblemKind},
        server::{Server, server_info},
    },
    url::RedisUrl,
};

/// A connection for one script, beside those of caches: it logs in, speaks TLS and finds the right node of a cluster as
/// they do.
pub struct ScriptConnection {
    connection: Connection,
    url: RedisUrl,
    /// The name under which the server keeps the script.
    digest: String,
}

impl ScriptConnection {
    /// Connects to the server that holds `key`, and loads the script there. Takes at most a few times
    /// [`RedisConfig::timeout`]. In a cluster, all keys that the script is run for must have the hash tag of `key`.
    ///
    /// # Errors
    /// [`CheckError`] with the server's error text.
    ///
    /// # Cancel safety
    /// The connection is closed.
    pub async fn open(redis: &RedisConfig, key: &str, script: &str) -> Result<Self, CheckError> {
        let mut failed = None;
        for server in Server::all(redis)? {
            match Self::open_through(&server, key, script, redis.timeout).await {
                Ok(opened) => return Ok(opened),
                Err(problem) => failed = failed.or_else(|| Some(problem.at(server.url()))),
            }
        }
        let none = || RedisProblem::new(RedisProblemKind::Mismatch, "no server is named");
        Err(failed.unwrap_or_else(none).into())
    }

    async fn open_through(server: &Server, key: &str, script: &str, limit: Duration) -> Result<Self, RedisProblem> {
        let mut connection = server.open(limit).await?;
        let mut url = server.url().clone();
        if server_info(&mut connection).await?.is_in_cluster {
            let topology = server.topology(&mut connection).await?;
            let primary = &topology.primaries[topology.primary_of(key.as_bytes())];
            let node = server.at(&primary.host, primary.port);
            connection = node.open(limit).await?;
            url = node.url().clone();
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script);
        let digest = load.query_async(&mut connection.commands).await?;
        Ok(Self {
            connection,
            url,
            digest,
        })
    }

    /// Runs the script once for each call, a key and arguments, all in one round trip, and returns the number that each
    /// returns.
    ///
    /// # Errors
    /// [`RedisProblem`] if there is no answer within `limit`, or one of the calls fails. The others may have had their
    /// effect.
    ///
    /// # Cancel safety
    /// The calls may have had their effect.
    pub async fn run<'a, const N: usize>(
        &mut self,
        calls: impl Iterator<Item = (&'a str, [u64; N])>,
        limit: Duration,
    ) -> Result<Vec<i64>, RedisProblem> {
        let mut pipeline = redis::pipe();
        for (key, arguments) in calls {
            pipeline
                .cmd("EVALSHA")
                .arg(&self.digest)
                .arg(1)
                .arg(key)
                .arg(&arguments[..]);
        }
        let answered = timeout(limit, pipeline.query_async(&mut self.connection.commands)).await;
        let late = |_| {
            Err(RedisProblem::new(
                RedisProblemKind::TimedOut,
                "it did not answer in time",
            ))
        };
        let answered = answered.map_or_else(late, |answered| answered.map_err(RedisProblem::from));
        answered.map_err(|problem| problem.at(&self.url))
    }
}

/// Shows no address.
impl std::fmt::Debug for ScriptConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptConnection").finish_non_exhaustive()
    }
}
