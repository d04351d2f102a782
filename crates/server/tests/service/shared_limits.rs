//! Three instances that share a limit through one Redis: while it answers, while it is frozen, and afterwards.

use std::time::Duration;

use cenote_testing::RedisServer;
use serde_json::Value;
use tokio::time::{Instant, interval};

use crate::support::{Connection, Database, Service, eventually, millis, redis, secs};

/// With 20 at once, so that half a second in which the machine does other work costs nothing. A lease is 7.
const SEARCH: (&str, &str) = ("RATE_LIMIT_CLASSES", "search=GET /users:40/s burst=20");
const RATE: f64 = 40.0;
const BURST: f64 = 20.0;

struct Three {
    redis: RedisServer,
    services: Vec<Service>,
}

/// What was admitted in some time, and how long responses took.
struct Load {
    time: f64,
    admitted: f64,
    took: Vec<Duration>,
}

impl Three {
    async fn start() -> Self {
        let redis = redis().await;
        let url = redis.url();
        let database = Database::create().await;
        let settings = [SEARCH, ("REDIS_URL", &*url), ("INSTANCES", "3"), ("CACHE_MODE", "off")];
        let mut services = Vec::new();
        for _ in 0..3 {
            services.push(Service::start_with(&database, &settings).await);
        }
        let three = Self { redis, services };
        three.until("healthy").await;
        three
    }

    /// Waits until all instances say this of their limits. Returns what the last of them says.
    async fn until(&self, state: &str) -> Value {
        let mut last = Value::Null;
        for service in &self.services {
            last = eventually("the instance says so", async || {
                let limits = service.get("/health").await.json(200)["limits"].clone();
                (limits["state"] == state).then_some(limits)
            })
            .await;
        }
        last
    }

    /// Asks these instances for some seconds, far more often than the limit allows.
    async fn load(&self, instances: &[usize]) -> Load {
        let mut connections: Vec<Connection> = Vec::new();
        for instance in instances {
            connections.push(self.services[*instance].connect().await);
        }
        let mut every = interval(millis(3));
        let (start, mut admitted, mut took) = (Instant::now(), 0.0, Vec::new());
        while start.elapsed() < secs(5) {
            every.tick().await;
            for connection in &mut connections {
                let asked = Instant::now();
                let answer = connection.ask("GET", "/users", &[], "").await.unwrap();
                took.push(asked.elapsed());
                match answer.status {
                    200 => admitted += 1.0,
                    status => assert_eq!(status, 429),
                }
            }
        }
        let time = start.elapsed().as_secs_f64();
        Load { time, admitted, took }
    }
}

impl Load {
    fn assert_within_a_tenth(&self, least: f64, most: f64) {
        let range = least * 0.9..most * 1.1;
        assert!(
            range.contains(&self.admitted),
            "{} instead of {least}..{most}",
            self.admitted
        );
    }
}

#[tokio::test]
async fn three_instances_admit_what_one_would_also_after_an_outage_of_redis() {
    let three = Three::start().await;
    let shared = three.load(&[0, 1, 2]).await;
    let expected = BURST + RATE * shared.time;
    shared.assert_within_a_tenth(expected, expected);

    three.redis.freeze().await.unwrap();
    let frozen = three.load(&[0, 1, 2]).await;
    // A lease of each instance is admitted until it finds out.
    frozen.assert_within_a_tenth(RATE * frozen.time, RATE * frozen.time + 21.0);
    let mut took = frozen.took;
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < millis(25), "responses take {median:?}");
    let limits = three.until("degraded").await;
    let problem = limits["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("each instance admits 1/3 of every limit until Redis answers. "),
        "{problem}"
    );
    let alone = three.load(&[1]).await;
    alone.assert_within_a_tenth(RATE / 3.0 * alone.time, RATE / 3.0 * alone.time + 7.0);

    three.redis.thaw().await.unwrap();
    assert_eq!(three.until("healthy").await["problem"], Value::Null);
    let again = three.load(&[0]).await;
    again.assert_within_a_tenth(RATE * again.time, RATE * again.time + BURST);
}

#[tokio::test]
async fn without_redis_from_the_start_each_instance_admits_its_part() {
    let redis = redis().await;
    let url = redis.url();
    redis.kill().await.unwrap();
    let settings = [
        ("RATE_LIMIT_CLASSES", "search=GET /users:60/h burst=9"),
        ("REDIS_URL", &*url),
        ("INSTANCES", "3"),
        ("CACHE_MODE", "off"),
    ];
    let service = Service::start(&settings).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(service.get("/users").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let health = service.get("/health").await.json(200);
    assert_eq!(
        (&health["status"], &health["limits"]["state"]),
        (&"degraded".into(), &"degraded".into())
    );
}
