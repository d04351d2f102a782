use std::ops::Range;
use std::sync::Arc;

use cenote_testing::{RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::*;
use crate::limits::{Base, Caller, LimitsConfig};

const INSTANCES: usize = 3;

/// Instances that share 50 reads a second, with 25 at once, so that half a second in which the machine does other work costs
/// nothing. A lease is 9.
struct World {
    redis: RedisServer,
    limits: Vec<Arc<Limits>>,
    _tasks: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let redis = RedisServer::temporary().start().await.unwrap();
        let mut tasks = JoinSet::new();
        let mut limits = Vec::new();
        for _ in 0..INSTANCES {
            let config = LimitsConfig {
                read: "50/s burst=25".parse().unwrap(),
                shared_by: Some(INSTANCES as u32),
                ..LimitsConfig::default()
            };
            let instance = Arc::new(Limits::new(&config));
            let url = RedisConfig::from_url(&redis.url()).unwrap();
            tasks.spawn(Arc::clone(&instance).share(url));
            limits.push(instance);
        }
        let world = Self {
            redis,
            limits,
            _tasks: tasks,
        };
        world.until_degraded(false).await;
        world
    }

    /// Waits until all instances share the limits, or none.
    async fn until_degraded(&self, expected: bool) {
        let all = || {
            let mut stats = self
                .limits
                .iter()
                .map(|limits| limits.stats(Instant::now()).shared.unwrap());
            stats.all(|stats| stats.problem.is_some() == expected)
        };
        eventually("Redis is seen", Duration::from_secs(20), all).await;
    }

    fn admits(&self, instance: usize, caller: Caller) -> bool {
        let limits = &self.limits[instance];
        !limits
            .charge(Base::Read.into(), caller, None, Instant::now())
            .is_refused()
    }

    /// Asks these instances in turn for four seconds, far more often than the limit allows. They must admit `at_once`
    /// requests and `rate` each second, within a tenth.
    async fn admit_within_a_tenth(&self, instances: &[usize], caller: Caller, at_once: Range<f64>, rate: f64) {
        let mut every = interval(Duration::from_millis(1));
        let (start, mut admitted) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(4) {
            every.tick().await;
            let count = instances.iter().filter(|instance| self.admits(**instance, caller));
            admitted += count.count();
        }
        let later = rate * start.elapsed().as_secs_f64();
        let tenth = (at_once.start + later) * 0.9..(at_once.end + later) * 1.1;
        assert!(
            tenth.contains(&(admitted as f64)),
            "{admitted} instead of {at_once:?} and {later}"
        );
    }
}

/// A caller who has been idle.
const IDLE: Range<f64> = 25.0..25.0;

#[tokio::test]
async fn three_instances_together_admit_what_one_would() {
    let world = World::start().await;
    let all = [0, 1, 2];
    world.admit_within_a_tenth(&all, Caller::Identity(1), IDLE, 50.0).await;
    // One of them alone gives all of it.
    world.admit_within_a_tenth(&[1], Caller::Identity(2), IDLE, 50.0).await;
    let stats = world.limits[1].stats(Instant::now()).shared.unwrap();
    assert!(stats.reports > 20, "{stats:?}");
}

#[tokio::test]
async fn the_first_requests_on_all_instances_exceed_the_limit_by_a_lease_for_each_at_most() {
    let world = World::start().await;
    let mut admitted = 0;
    // No round trip ends meanwhile: nothing is awaited.
    for request in 0..60 {
        admitted += usize::from(world.admits(request % INSTANCES, Caller::Identity(3)));
    }
    assert_eq!(admitted, 9 * INSTANCES);
}

#[tokio::test]
async fn while_redis_is_frozen_each_instance_admits_its_part_and_no_request_waits() {
    let world = World::start().await;
    let all = [0, 1, 2];
    let caller = Caller::Identity(4);
    world.admit_within_a_tenth(&all, caller, IDLE, 50.0).await;
    world.redis.freeze().await.unwrap();
    // Reports, by which each instance finds out at once.
    for instance in all {
        assert!((0..5).all(|_| world.admits(instance, Caller::Identity(7))));
    }
    world.until_degraded(true).await;
    world.admit_within_a_tenth(&all, caller, 0.0..25.0, 50.0).await;
    world
        .admit_within_a_tenth(&[2], Caller::Identity(5), 8.0..9.0, 50.0 / 3.0)
        .await;
    world.redis.thaw().await.unwrap();
    world.until_degraded(false).await;
    world.admit_within_a_tenth(&[0], Caller::Identity(6), IDLE, 50.0).await;
    // What could not be reported is reported now.
    world
        .admit_within_a_tenth(&all, Caller::Identity(7), 0.0..25.0, 50.0)
        .await;
}

#[tokio::test]
async fn a_redis_that_has_lost_its_keys_costs_a_burst_at_most() {
    let world = World::start().await;
    let all = [0, 1, 2];
    let caller = Caller::Identity(8);
    world.admit_within_a_tenth(&all, caller, IDLE, 50.0).await;
    world.redis.kill().await.unwrap();
    world.until_degraded(true).await;
    world.redis.restart().await.unwrap();
    assert_eq!(world.redis.command(&["DBSIZE"]).await.unwrap(), "0");
    world.until_degraded(false).await;
    world.admit_within_a_tenth(&all, caller, 0.0..25.0, 50.0).await;
    let kept = world.redis.command(&["EXISTS", "cenote:{limits}:read:50/s+25:id:8"]);
    assert_eq!(kept.await.unwrap(), "1");
}
