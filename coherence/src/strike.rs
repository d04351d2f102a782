//! Makes a fault happen. Invariant: when a strike is over, all that it broke is whole again, and who was away meanwhile
//! is noted.

use std::time::Duration;

use cenote_cache::clock;
use cenote_local::RedisServer;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::{
    Result,
    downtime::Who,
    fault::Fault,
    world::{World, command, operator},
};

/// The instance that something happens to, where it happens to one.
const VICTIM: usize = 0;
/// How long Redis or PostgreSQL is away at least before it starts again.
const AWAY: Duration = Duration::from_secs(1);
/// Less than after what an instance gives a call up, and enough for a commit.
const HELD: Duration = Duration::from_millis(60);

/// What is needed once the load is there, some time before the strike.
pub(crate) async fn prepare(fault: Fault, world: &World) -> Result<()> {
    if fault == Fault::RestoreRedis {
        // It finds this at its next start.
        command(&mut operator(world.redis()?).await?, &["SAVE"]).await?;
    }
    Ok(())
}

/// Strikes, for about so long.
pub(crate) async fn strike(fault: Fault, world: &World, lasts: Duration) -> Result<()> {
    let end = Instant::now() + lasts;
    match fault {
        Fault::None => sleep(lasts).await,
        Fault::RestartRedis | Fault::RestoreRedis => {
            let redis = world.redis()?;
            redis.kill().await?;
            sleep(AWAY.max(lasts / 2)).await;
            redis.restart().await?;
        }
        Fault::FreezeRedis => freeze_redis(world, lasts).await?,
        Fault::StutterRedis => {
            while Instant::now() < end {
                freeze_redis(world, millis(100..600)).await?;
                sleep(millis(50..1_500)).await;
            }
        }
        Fault::FlushRedis => repeat(world, end, &["FLUSHALL"]).await?,
        Fault::KillClients => repeat(world, end, &["CLIENT", "KILL", "TYPE", "normal"]).await?,
        Fault::EvictRedis => {
            let mut redis = operator(world.redis()?).await?;
            let set = [
                "CONFIG",
                "SET",
                "maxmemory-policy",
                "allkeys-random",
                "maxmemory",
            ];
            command(&mut redis, &[&set[..], &["2mb"]].concat()).await?;
            sleep(lasts).await;
            command(&mut redis, &["CONFIG", "SET", "maxmemory", "0"]).await?;
        }
        Fault::CutOff => {
            world.proxies[VICTIM].refuse().await;
            sleep(lasts).await;
            world.proxies[VICTIM].heal();
        }
        Fault::Silence => {
            world.proxies[VICTIM].freeze();
            sleep(lasts).await;
            world.proxies[VICTIM].heal();
        }
        Fault::SplitBrain => split_brain(world, lasts).await?,
        Fault::KillService => {
            let mut round = 0;
            while Instant::now() < end {
                kill_service(world, round).await?;
                round += 1;
            }
        }
        Fault::FreezeService => freeze_service(world, VICTIM, lasts).await?,
        Fault::StutterService => {
            let mut instances = (0..world.services.len()).cycle();
            while let Some(instance) = instances.next()
                && Instant::now() < end
            {
                freeze_service(world, instance, millis(1_000..3_000)).await?;
                sleep(millis(100..1_000)).await;
            }
        }
        Fault::TerminateBackends => terminate_backends(world, end).await?,
        Fault::RestartPostgres => {
            let from = clock::now();
            world.postgres.kill().await?;
            sleep(AWAY).await;
            world.postgres.restart().await?;
            world.downtime.note(Who::Database, from, clock::now());
        }
        Fault::Failover => return Err("there is no cluster yet".into()),
    }
    Ok(())
}

async fn freeze_redis(world: &World, lasts: Duration) -> Result<()> {
    let redis = world.redis()?;
    redis.freeze().await?;
    sleep(lasts).await;
    Ok(redis.thaw().await?)
}

async fn freeze_service(world: &World, instance: usize, lasts: Duration) -> Result<()> {
    let service = &world.services[instance];
    let from = clock::now();
    service.freeze().await?;
    sleep(lasts).await;
    service.thaw().await?;
    world
        .downtime
        .note(Who::Instance(instance), from, clock::now());
    Ok(())
}

/// Kills an instance and starts it again. In every second round it is first kept from reaching Redis for a moment: the
/// writes that it had announced by then are committed, and cannot be released any more.
async fn kill_service(world: &World, round: usize) -> Result<()> {
    let instance = round % world.services.len();
    let service = &world.services[instance];
    let proxy = world
        .proxies
        .get(instance)
        .filter(|_| round.is_multiple_of(2));
    if let Some(proxy) = proxy {
        proxy.hold(cenote_local::Direction::ToServer);
        sleep(HELD).await;
    }
    let from = clock::now();
    service.kill().await?;
    if let Some(proxy) = proxy {
        proxy.cut().await; // what was held is gone with its sender
        proxy.heal();
    }
    service.launch().await?;
    timeout(Duration::from_secs(30), service.is_ready()).await??;
    world
        .downtime
        .note(Who::Instance(instance), from, clock::now());
    sleep(millis(200..1_500)).await;
    Ok(())
}

/// Sends a command to Redis again and again, at times in quick succession.
async fn repeat(world: &World, end: Instant, words: &[&str]) -> Result<()> {
    let mut redis = operator(world.redis()?).await?;
    while Instant::now() < end {
        command(&mut redis, words).await?;
        sleep(millis(1..300)).await;
    }
    Ok(())
}

/// Leads one instance to a Redis that has all that the first has, and both go on.
async fn split_brain(world: &World, lasts: Duration) -> Result<()> {
    let first = world.redis()?;
    let second = RedisServer::temporary().start().await?;
    let password = password(first)?;
    let port = first.port().to_string();
    let mut redis = operator(&second).await?;
    command(&mut redis, &["CONFIG", "SET", "masterauth", &password]).await?;
    command(&mut redis, &["CONFIG", "SET", "requirepass", &password]).await?;
    command(&mut redis, &["REPLICAOF", "127.0.0.1", &port]).await?;
    timeout(Duration::from_secs(10), in_step(&mut redis)).await??;
    command(&mut redis, &["REPLICAOF", "NO", "ONE"]).await?;
    let proxy = &world.proxies[VICTIM];
    proxy.lead_to(([127, 0, 0, 1], second.port()));
    proxy.cut().await;
    sleep(lasts).await;
    proxy.lead_to(([127, 0, 0, 1], first.port()));
    proxy.cut().await;
    Ok(())
}

/// Waits until a replica has all that its primary has.
async fn in_step(redis: &mut MultiplexedConnection) -> Result<()> {
    loop {
        let state: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(redis)
            .await?;
        if state.contains("master_link_status:up") {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn password(server: &RedisServer) -> Result<String> {
    let client = redis::Client::open(server.url())?;
    let password = client.get_connection_info().redis_settings().password();
    Ok(password.ok_or("a Redis without a password")?.to_owned())
}

/// Ends sessions in the middle of a statement that writes, as an administrator would.
async fn terminate_backends(world: &World, end: Instant) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(&world.postgres.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    while Instant::now() < end {
        client
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name LIKE 'cenote%' AND state = 'active' \
                 AND (query LIKE 'INSERT INTO kv%' OR query LIKE 'UPDATE kv%')",
            )
            .await?;
        sleep(millis(5..200)).await;
    }
    drop(client);
    Ok(connection.await??)
}

fn millis(range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(fastrand::u64(range))
}
