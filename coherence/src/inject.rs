//! Injects a fault. Invariant: when [`inject`] returns, everything that it broke works again, and every downtime is
//! recorded.

use std::time::Duration;

use cenote_cache::clock;
use cenote_testing::Direction;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::{Result, downtime::Who, fault::Fault, world::World};

/// The instance of faults that concern only one.
const VICTIM: usize = 0;
/// The least time for which Redis or PostgreSQL is down.
const AWAY: Duration = Duration::from_secs(1);
/// Shorter than the timeout of a call to Redis, and long enough for a commit.
const HELD: Duration = Duration::from_millis(60);
/// The delay of each direction to and from Redis. Both together are shorter than the timeout of a call.
const LATE: Duration = Duration::from_millis(40);

/// Prepares the fault while there is load already.
pub(crate) async fn prepare(fault: Fault, world: &World) -> Result<()> {
    if fault == Fault::RestoreRedis {
        // Redis loads this snapshot at its next start.
        world.redis()?.save().await?;
    }
    Ok(())
}

/// Injects the fault for about this time, then removes it.
pub(crate) async fn inject(fault: Fault, world: &World, lasts: Duration) -> Result<()> {
    let end = Instant::now() + lasts;
    match fault {
        Fault::None => sleep(lasts).await,
        Fault::RestartRedis | Fault::RestoreRedis => {
            // The first restart is so quick that no call has timed out when Redis is back, empty or with old data.
            let redis = world.redis()?;
            redis.kill().await?;
            redis.restart().await?;
            sleep(lasts / 2).await;
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
        Fault::SlowRedis => slow_redis(world, end).await?,
        Fault::KillClients => repeat(world, end, &["CLIENT", "KILL", "TYPE", "normal"]).await?,
        Fault::SwapDatabases => swap_databases(world, end).await?,
        Fault::ForgetProof => repeat(world, end, &["EVAL", FORGET, "0"]).await?,
        Fault::OtherDatabase => other_database(world, lasts).await?,
        Fault::EvictRedis => {
            let redis = world.redis()?;
            let policy = ["CONFIG", "SET", "maxmemory-policy", "allkeys-random"];
            redis.command(&policy).await?;
            redis.command(&["CONFIG", "SET", "maxmemory", "2mb"]).await?;
            sleep(lasts).await;
            redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
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
        Fault::Failover => {
            let cluster = world.cluster()?;
            let primary = &cluster.nodes()[VICTIM];
            primary.kill().await?;
            cluster.steady().await?;
            sleep(lasts / 2).await;
            primary.restart().await?;
        }
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
    world.downtime.note(Who::Instance(instance), from, clock::now());
    Ok(())
}

/// Kills an instance and starts it again. In every second round it cannot reach Redis for a moment before that: writes
/// whose fences are set are committed then, and their fences are never released.
async fn kill_service(world: &World, round: usize) -> Result<()> {
    let instance = round % world.services.len();
    let service = &world.services[instance];
    let proxy = world.proxies.get(instance).filter(|_| round.is_multiple_of(2));
    if let Some(proxy) = proxy {
        proxy.hold(Direction::ToServer);
        sleep(HELD).await;
    }
    let from = clock::now();
    service.kill().await?;
    if let Some(proxy) = proxy {
        proxy.cut().await; // the bytes that it held must not arrive after their sender's death
        proxy.heal();
    }
    service.launch().await?;
    timeout(Duration::from_secs(30), service.is_ready()).await??;
    world.downtime.note(Who::Instance(instance), from, clock::now());
    sleep(millis(200..1_500)).await;
    Ok(())
}

/// Sends a command to Redis repeatedly, at random intervals.
async fn repeat(world: &World, end: Instant, words: &[&str]) -> Result<()> {
    let redis = world.redis()?;
    while Instant::now() < end {
        redis.command(words).await?;
        sleep(millis(1..300)).await;
    }
    Ok(())
}

/// Deletes the proofs by which instances recognize their keyspace.
const FORGET: &str = "for _, proof in ipairs(redis.call('KEYS', '*::proof:*')) do redis.call('DEL', proof) end";

/// Swaps the database of Redis with an empty one, and back after a short or a long time.
async fn swap_databases(world: &World, end: Instant) -> Result<()> {
    let redis = world.redis()?;
    let swap = ["SWAPDB", "0", "1"];
    while Instant::now() < end {
        if fastrand::bool() {
            redis.command(&["EVAL", FORGET, "0"]).await?;
        }
        redis.command(&swap).await?;
        let away = if fastrand::bool() {
            millis(1..20)
        } else {
            millis(100..3_000)
        };
        sleep(away).await;
        redis.command(&swap).await?;
        sleep(millis(100..1_500)).await;
    }
    Ok(())
}

/// Restarts one instance with another database number, and later with the usual one.
async fn other_database(world: &World, lasts: Duration) -> Result<()> {
    let service = &world.services[VICTIM];
    let url = world.proxies[VICTIM].url(&world.redis()?.url());
    for (number, lasts) in [("1", lasts), ("0", Duration::ZERO)] {
        let from = clock::now();
        service.kill().await?;
        service.set("REDIS_URL", format!("{url}{number}"));
        service.launch().await?;
        timeout(Duration::from_secs(30), service.is_ready()).await??;
        world.downtime.note(Who::Instance(VICTIM), from, clock::now());
        sleep(lasts).await;
    }
    Ok(())
}

/// Delays one instance's connection to Redis: its fences are set long before their commits, and released long after.
/// Now and then Redis is flushed and loses the fences in between.
async fn slow_redis(world: &World, end: Instant) -> Result<()> {
    let (redis, proxy) = (world.redis()?, &world.proxies[VICTIM]);
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, LATE);
    }
    while Instant::now() < end {
        sleep(millis(100..1_000)).await;
        redis.command(&["FLUSHALL"]).await?;
    }
    proxy.heal();
    Ok(())
}

/// Connects one instance to a copy of Redis, while the others use the original.
async fn split_brain(world: &World, lasts: Duration) -> Result<()> {
    let first = world.redis()?;
    let second = first.replica().start().await?;
    timeout(Duration::from_secs(10), async {
        let state = ["INFO", "replication"];
        while !second.command(&state).await?.contains("master_link_status:up") {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, cenote_testing::Error>(())
    })
    .await??;
    second.command(&["REPLICAOF", "NO", "ONE"]).await?;
    let proxy = &world.proxies[VICTIM];
    proxy.lead_to(([127, 0, 0, 1], second.port()));
    proxy.cut().await;
    sleep(lasts).await;
    proxy.lead_to(([127, 0, 0, 1], first.port()));
    proxy.cut().await;
    Ok(())
}

/// Waits for sessions that run a writing statement, at most for a second, and terminates them. Stores their number in
/// `cenote.ended`.
const TERMINATE: &str = "DO $$
    DECLARE ended bigint := 0;
    BEGIN
        WHILE ended = 0 AND clock_timestamp() < now() + interval '1 s' LOOP
            PERFORM pg_stat_clear_snapshot();
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) INTO ended FROM pg_stat_activity
                WHERE application_name LIKE 'cenote%' AND state = 'active' AND query ~ '^/[*] key[.](write|change)';
        END LOOP;
        PERFORM set_config('cenote.ended', ended::text, false);
    END $$";

/// Terminates writing sessions repeatedly.
async fn terminate_backends(world: &World, end: Instant) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(&world.postgres.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut ended = 0;
    while Instant::now() < end {
        client.batch_execute(TERMINATE).await?;
        let count = "SELECT current_setting('cenote.ended')::bigint";
        ended += client.query_one(count, &[]).await?.get::<_, i64>(0);
        sleep(millis(5..200)).await;
    }
    drop(client);
    connection.await??;
    match ended {
        0 => Err("no session wrote".into()),
        _ => Ok(()),
    }
}

fn millis(range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(fastrand::u64(range))
}
