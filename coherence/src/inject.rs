//! Makes a fault happen. Invariant: when a strike is over, all that it broke is whole again, and who was away meanwhile
//! is noted.

use std::time::Duration;

use cenote_cache::clock;
use cenote_testing::Direction;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::{Result, downtime::Who, fault::Fault, world::World};

/// The instance that something happens to, where it happens to one.
const VICTIM: usize = 0;
/// How long Redis or PostgreSQL is away at least before it starts again.
const AWAY: Duration = Duration::from_secs(1);
/// Less than after what an instance gives a call up, and enough for a commit.
const HELD: Duration = Duration::from_millis(60);
/// What is on its way to or from Redis is late by; there and back it is less than after what a call is given up.
const LATE: Duration = Duration::from_millis(40);

/// What is needed once the load is there, some time before the strike.
pub(crate) async fn prepare(fault: Fault, world: &World) -> Result<()> {
    if fault == Fault::RestoreRedis {
        // It finds this at its next start.
        world.redis()?.save().await?;
    }
    Ok(())
}

/// Strikes, for about so long.
pub(crate) async fn inject(fault: Fault, world: &World, lasts: Duration) -> Result<()> {
    let end = Instant::now() + lasts;
    match fault {
        Fault::None => sleep(lasts).await,
        Fault::RestartRedis | Fault::RestoreRedis => {
            // First so quickly that nobody has given it up when it is back as another.
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

/// Kills an instance and starts it again. In every second round it is first kept from reaching Redis for a moment: the
/// writes that it had announced by then are committed, and cannot be released any more.
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
        proxy.cut().await; // what was held is gone with its sender
        proxy.heal();
    }
    service.launch().await?;
    timeout(Duration::from_secs(30), service.is_ready()).await??;
    world.downtime.note(Who::Instance(instance), from, clock::now());
    sleep(millis(200..1_500)).await;
    Ok(())
}

/// Sends a command to Redis again and again, at times in quick succession.
async fn repeat(world: &World, end: Instant, words: &[&str]) -> Result<()> {
    let redis = world.redis()?;
    while Instant::now() < end {
        redis.command(words).await?;
        sleep(millis(1..300)).await;
    }
    Ok(())
}

/// Deletes what proves to the instances which keyspace they see.
const FORGET: &str = "for _, proof in ipairs(redis.call('KEYS', '*::proof:*')) do redis.call('DEL', proof) end";

/// Swaps what Redis holds with an empty database and, after a moment or a while, back.
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

/// Starts one instance again so that it uses a database of its own, and later as it was.
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

/// Makes the victim's fences stand long before their commits, and its commits long before their releases; fences are
/// lost in between at times.
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

/// Leads one instance to a Redis that has all that the first has, and both go on.
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

/// Looks for a session in the middle of a statement that writes until there is one, a second at most, and ends it as an
/// administrator would; leaves how many it ended.
const TERMINATE: &str = "DO $$
    DECLARE ended bigint := 0;
    BEGIN
        WHILE ended = 0 AND clock_timestamp() < now() + interval '1 s' LOOP
            PERFORM pg_stat_clear_snapshot();
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) INTO ended FROM pg_stat_activity
                WHERE application_name LIKE 'cenote%' AND state = 'active' AND query LIKE '%INSERT INTO kv%';
        END LOOP;
        PERFORM set_config('cenote.ended', ended::text, false);
    END $$";

/// Ends sessions that write, one after the other.
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
