//! What Redis keeps of a shared limit: the theoretical arrival time of each bucket, in microseconds of its own clock.
//!
//! Invariant: one call is one atomic change. What was admitted is charged even if that exceeds the limit, so what the
//! instances admit too much now they admit too little later.

use crate::limits::caller::Caller;
use crate::limits::policy::Window;

/// Charges a bucket, and returns how far ahead of now it lies afterwards, in microseconds.
///
/// Arguments: the cost; how far ahead the bucket of the instance lies; the largest possible lead; and the shortest life of
/// the key, in seconds. The others are in microseconds.
///
/// Requests of some time ago must not be charged as if they came now: the caller may have been idle since. The bucket of the
/// instance contains the times of its requests. So the bucket of all is moved on by the cost, or to where that of the
/// instance lies, if that is later. A lead beyond the largest possible one comes from a clock of Redis that was
/// set back.
pub(super) const CHARGE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = tonumber(redis.call('GET', KEYS[1])) or 0
tat = math.max(math.min(tat, now + ARGV[3]) + ARGV[1], now + ARGV[2])
local ahead = tat - now
local seconds = math.max(ARGV[4], math.ceil(ahead / 1000000))
-- By itself, Lua would round such large numbers.
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'EX', seconds)
return ahead";

/// The key of [`probe`]. All keys have its hash tag, so that a cluster keeps them on one node, and begin as those of the
/// cache do, so that one permission is for both.
pub(super) const PROBE: &str = "cenote:{limits}:probe";

/// The arguments of a call that shows that Redis does what is needed, and charges nothing.
pub(super) const fn probe() -> [u64; 4] {
    [0, 0, 0, 1]
}

/// A report as Redis gets it.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) key: String,
    pub(super) arguments: [u64; 4],
}

impl Charge {
    /// `ahead`: how far ahead of now the bucket of this instance lies, in nanoseconds.
    pub(super) fn new(class: &str, window: Window, caller: Caller, count: u32, ahead: u64, instances: u32) -> Self {
        let interval = window.interval();
        let micros = |requests: u32| interval.saturating_mul(requests.into()).div_ceil(1000);
        let in_leases = window.lease(instances).most.saturating_mul(instances.saturating_mul(2));
        let most_ahead = micros(window.burst().saturating_add(in_leases));
        Self {
            key: key(class, window, caller),
            arguments: [
                micros(count),
                ahead.div_ceil(1000),
                most_ahead,
                window.unit().seconds().into(),
            ],
        }
    }
}

/// `cenote:{limits}:search:60/min+10:` and the caller. A caller whose limit has changed begins anew, as in the table of the
/// instance.
fn key(class: &str, window: Window, caller: Caller) -> String {
    let (quota, unit, burst) = (window.quota(), window.unit(), window.burst());
    match caller {
        Caller::Identity(id) => format!("cenote:{{limits}}:{class}:{quota}/{unit}+{burst}:id:{id:x}"),
        Caller::Address(address) => format!("cenote:{{limits}}:{class}:{quota}/{unit}+{burst}:address:{address}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cenote_cache::{RedisConfig, ScriptConnection};
    use cenote_testing::RedisServer;

    use super::*;
    use crate::limits::policy::Policy;

    fn window(text: &str) -> Window {
        text.parse::<Policy>().unwrap().windows()[0]
    }

    #[test]
    fn callers_classes_and_limits_have_their_own_keys_in_one_slot() {
        let mut keys = Vec::new();
        for class in ["read", "write"] {
            for window in [window("1/s"), window("1/min"), window("2/min"), window("2/min burst=2")] {
                for caller in [
                    Caller::Identity(1),
                    Caller::Identity(u64::MAX),
                    Caller::Address("192.0.2.1".parse().unwrap()),
                    Caller::Address("2001:db8::".parse().unwrap()),
                ] {
                    keys.push(key(class, window, caller));
                }
            }
        }
        assert!(keys.iter().all(|key| key.starts_with("cenote:{limits}:")));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    /// A Redis with a bucket of 60 a minute, 100 at once, of three instances.
    struct Bucket {
        server: RedisServer,
        connection: ScriptConnection,
        key: String,
    }

    impl Bucket {
        async fn new() -> Self {
            let server = RedisServer::temporary().start().await.unwrap();
            let redis = RedisConfig::from_url(&server.url()).unwrap();
            let connection = ScriptConnection::open(&redis, PROBE, CHARGE).await.unwrap();
            let key = Self::charge(0, 0).key;
            Self {
                server,
                connection,
                key,
            }
        }

        fn charge(count: u32, ahead: u64) -> Charge {
            Charge::new("read", window("60/min burst=100"), Caller::Identity(7), count, ahead, 3)
        }

        /// Reports requests of an instance whose bucket lies `ahead` seconds ahead. Returns how far that of all does.
        async fn report(&mut self, count: u32, ahead: u64) -> f64 {
            let charge = Self::charge(count, ahead * 1_000_000_000);
            let calls = [(&*charge.key, charge.arguments)].into_iter();
            let answers = self.connection.run(calls, Duration::from_secs(5)).await.unwrap();
            answers[0] as f64 / 1e6
        }

        /// Sets the bucket to this many seconds from now.
        async fn set(&self, seconds: i64) {
            let script = "return redis.call('TIME')[1]";
            let now: i64 = self
                .server
                .command(&["EVAL", script, "0"])
                .await
                .unwrap()
                .parse()
                .unwrap();
            let tat = ((now + seconds) * 1_000_000).to_string();
            self.server.command(&["SET", &self.key, &tat]).await.unwrap();
        }

        async fn life(&self) -> f64 {
            let life = self.server.command(&["PTTL", &self.key]).await.unwrap();
            life.parse::<f64>().unwrap() / 1e3
        }
    }

    /// `seconds`, or up to five less on a slow machine.
    fn is_about(seconds: f64, expected: f64) -> bool {
        (expected - 5.0..=expected).contains(&seconds)
    }

    #[tokio::test]
    async fn redis_adds_up_what_instances_report_and_forgets_it_after_the_window() {
        let mut bucket = Bucket::new().await;
        assert_eq!(bucket.report(20, 20).await, 20.0);
        assert!(is_about(bucket.life().await, 60.0));
        let ahead = bucket.report(20, 20).await;
        assert!(is_about(ahead, 40.0), "{ahead}");
        let ahead = bucket.report(30, 30).await;
        assert!(is_about(ahead, 70.0), "{ahead}");
        // Longer than the window only as long as there is something to remember.
        assert!(is_about(bucket.life().await, 71.0));
        // An instance that knows of more than Redis, which lost its keys.
        bucket.server.command(&["DEL", &bucket.key]).await.unwrap();
        assert_eq!(bucket.report(1, 30).await, 30.0);
    }

    #[tokio::test]
    async fn requests_of_some_time_ago_are_not_charged_as_if_they_came_now() {
        let mut bucket = Bucket::new().await;
        bucket.set(-50).await;
        let ahead = bucket.report(30, 1).await;
        assert_eq!(
            ahead, 1.0,
            "30 requests in 50 seconds leave nothing of what was spent before"
        );
        bucket.set(-20).await;
        let ahead = bucket.report(30, 1).await;
        assert!(is_about(ahead, 10.0), "{ahead}");
    }

    #[tokio::test]
    async fn when_the_clock_of_redis_is_set_a_caller_loses_and_gains_little() {
        let mut bucket = Bucket::new().await;
        // Set back by an hour: not further ahead than it can be, and one request.
        bucket.set(3_600).await;
        assert_eq!(bucket.report(1, 1).await, 100.0 + 2.0 * 3.0 * 34.0 + 1.0);
        // Set forward: the instance still knows what it knows.
        bucket.set(-3_600).await;
        assert_eq!(bucket.report(1, 3).await, 3.0);
        bucket.server.command(&["SET", &bucket.key, "nonsense"]).await.unwrap();
        assert_eq!(bucket.report(1, 1).await, 1.0);
    }
}
