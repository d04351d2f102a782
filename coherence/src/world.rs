//! The servers of a trial: PostgreSQL, Redis, and the instances with a proxy before Redis each. Invariant: they are
//! private, and end with their handles.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_local::{PostgresServer, Proxy, RedisServer};
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::{Result, downtime::Downtime, mode::Mode, service::Service};

/// How long the instances may take until all is well.
const START: Duration = Duration::from_secs(30);

pub(crate) struct World {
    // Before what they use, so that they end first.
    pub(crate) services: Vec<Service>,
    /// One for each instance.
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) redis: Option<RedisServer>,
    pub(crate) postgres: PostgresServer,
    pub(crate) downtime: Downtime,
}

impl World {
    /// Starts all servers and returns when all is well. Logs go into the directory.
    pub(crate) async fn start(mode: Mode, program: &Path, directory: &Path) -> Result<Self> {
        let postgres = PostgresServer::temporary().start().await?;
        let redis = match mode.has_redis() {
            true => Some(RedisServer::temporary().start().await?),
            false => None,
        };
        let mut world = Self {
            services: Vec::new(),
            proxies: Vec::new(),
            redis,
            postgres,
            downtime: Downtime::default(),
        };
        for instance in 0..mode.instances() {
            let mut settings = vec![
                ("DATABASE_URL", world.postgres.url()),
                ("DB_POOL_TIMEOUT", "5".to_owned()),
                ("CACHE_MODE", mode.name().to_owned()),
            ];
            settings.extend(mode.settings());
            if let Some(redis) = &world.redis {
                let proxy = Proxy::to(([127, 0, 0, 1], redis.port())).await?;
                settings.push(("REDIS_URL", proxy.url(&redis.url())));
                world.proxies.push(proxy);
            }
            let log = directory.join(format!("instance-{instance}.log"));
            world
                .services
                .push(Service::start(program, settings, log).await?);
        }
        world.is_well(START).await?;
        Ok(world)
    }

    /// Waits until nothing is wrong with any instance, so long at most.
    pub(crate) async fn is_well(&self, limit: Duration) -> Result<()> {
        let all = async {
            for service in &self.services {
                service.is_ready().await?;
                service.is_well().await?;
            }
            Ok(())
        };
        let waited = timeout(limit, all).await;
        waited.map_err(|_| format!("not all instances are well after {limit:?}"))?
    }

    /// The Redis, in trials that have one.
    pub(crate) fn redis(&self) -> Result<&RedisServer> {
        self.redis
            .as_ref()
            .ok_or_else(|| "there is no Redis".into())
    }
}

/// A connection to a Redis, for an operator.
pub(crate) async fn operator(server: &RedisServer) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(server.url())?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// Sends a command to a Redis.
pub(crate) async fn command(
    redis: &mut MultiplexedConnection,
    words: &[&str],
) -> Result<redis::Value> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    Ok(command.query_async(redis).await?)
}

/// An empty directory of this name.
pub(crate) fn directory(parent: &Path, name: &str) -> Result<PathBuf> {
    let directory = std::path::absolute(parent.join(name))?;
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
