//! The servers of a trial: PostgreSQL, Redis, and the instances with a proxy before Redis each. Invariant: they are
//! private, and end with their handles.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_testing::{Proxy, RedisCluster, RedisServer};
use tokio::time::timeout;

use crate::{Fault, Result, downtime::Downtime, mode::Mode, service::Service};

/// How long the instances may take to become well.
const START: Duration = Duration::from_secs(30);

pub(crate) struct World {
    // Declared before the servers that they use, so that they are dropped first.
    pub(crate) services: Vec<Service>,
    /// In front of a single Redis, one for each instance.
    pub(crate) proxies: Vec<Proxy>,
    redis: Redis,
    pub(crate) postgres: PostgresServer,
    pub(crate) downtime: Downtime,
}

enum Redis {
    None,
    Single(RedisServer),
    Cluster(RedisCluster),
}

impl World {
    /// Starts the servers for a fault in this mode, and returns when all instances are well. Logs go into the
    /// directory.
    pub(crate) async fn start(mode: Mode, fault: Fault, program: &Path, directory: &Path) -> Result<Self> {
        let postgres = PostgresServer::temporary().start().await?;
        let redis = match (mode.has_redis(), fault) {
            (false, _) => Redis::None,
            (true, Fault::Failover) => Redis::Cluster(RedisCluster::temporary().start().await?),
            (true, _) => Redis::Single(RedisServer::temporary().start().await?),
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
            match &world.redis {
                Redis::None => {}
                Redis::Single(redis) => {
                    let proxy = Proxy::to(([127, 0, 0, 1], redis.port())).await?;
                    settings.push(("REDIS_URL", proxy.url(&redis.url())));
                    world.proxies.push(proxy);
                }
                Redis::Cluster(cluster) => settings.push(("REDIS_URL", cluster.url())),
            }
            let log = directory.join(format!("instance-{instance}.log"));
            world.services.push(Service::start(program, settings, log).await?);
        }
        world.is_well(START).await?;
        Ok(world)
    }

    /// Waits until all instances are ready and report no problem, at most for `limit`.
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

    /// The Redis, in trials that have a single one.
    pub(crate) fn redis(&self) -> Result<&RedisServer> {
        match &self.redis {
            Redis::Single(redis) => Ok(redis),
            Redis::None | Redis::Cluster(_) => Err("there is no single Redis".into()),
        }
    }

    /// The Redis Cluster, in trials that have one.
    pub(crate) fn cluster(&self) -> Result<&RedisCluster> {
        match &self.redis {
            Redis::Cluster(cluster) => Ok(cluster),
            Redis::None | Redis::Single(_) => Err("there is no cluster".into()),
        }
    }
}

/// Creates an empty directory of this name.
pub(crate) fn directory(parent: &Path, name: &str) -> Result<PathBuf> {
    let directory = std::path::absolute(parent.join(name))?;
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
