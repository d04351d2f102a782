//! `keys` of `/cache-stats`: the number of cached keys, in the process or in Redis, counted at little cost.

use cenote_testing::RedisServer;
use tokio::time::Instant;

use crate::support::{Service, eventually, eventually_within, redis, secs};

async fn over(redis: &RedisServer, settings: &[(&str, &str)]) -> Service {
    let url = redis.url();
    let service = Service::start(&[&[("REDIS_URL", &*url)], settings].concat()).await;
    service.uses_its_cache().await;
    service
}

async fn keys(service: &Service) -> u64 {
    service.cache_stats().await["keys"].as_u64().unwrap()
}

/// Waits until the count is `expected`. It is exact, because the database has no other keys.
async fn counts(service: &Service, expected: u64) {
    eventually("the count", async || (keys(service).await == expected).then_some(())).await;
    assert_eq!(service.cache_stats().await["keys_estimated"], false);
}

#[tokio::test]
async fn the_keys_in_redis_are_counted_and_the_count_goes_down_with_them() {
    for mode in ["strong", "bounded", "ttl"] {
        let redis = redis().await;
        let service = over(&redis, &[("CACHE_MODE", mode), ("CACHE_TTL", "600")]).await;
        counts(&service, 0).await;
        for n in 0..100 {
            service.read(&format!("key {n}")).await;
        }
        counts(&service, 100).await;
        let stats = service.cache_stats().await;
        assert!(stats["keys_age_ms"].as_f64().unwrap() < 20_000.0, "{stats}");
        for n in 0..40 {
            service.write(&format!("key {n}"), "value").await;
        }
        counts(&service, 60).await;
        let end = "local cursor = '0'
            repeat
              local found = redis.call('SCAN', cursor, 'MATCH', 'cenote:*:key *')
              cursor = found[1]
              for _, key in ipairs(found[2]) do redis.call('PEXPIRE', key, 1) end
            until cursor == '0'";
        redis.command(&["EVAL", end, "0"]).await.unwrap();
        counts(&service, 0).await;
    }
}

#[tokio::test]
async fn a_million_keys_of_others_are_not_counted_and_cost_little() {
    let redis = redis().await;
    let fill = "for i = 1, 250000 do redis.call('SET', ARGV[1] .. i, '') end";
    for part in ["a", "b", "c", "d"] {
        redis.command(&["EVAL", fill, "0", part]).await.unwrap();
    }
    let url = redis.url();
    let service = Service::start(&[("REDIS_URL", &*url), ("CACHE_TTL", "600")]).await;
    // Not by `/cache-stats`: the first look there would begin to count.
    eventually("the cache is used", async || {
        let health = service.get("/health").await.json(200);
        (health["cache"]["state"] == "healthy").then_some(())
    })
    .await;
    for n in 0..100 {
        service.read(&format!("key {n}")).await;
    }
    let calls = async || {
        let told = redis.command(&["INFO", "commandstats"]).await.unwrap();
        let line = told
            .lines()
            .find(|line| line.starts_with("cmdstat_scan:"))
            .map(str::to_owned);
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok());
        calls.unwrap_or(0)
    };
    let before = calls().await;
    let begun = Instant::now();
    let mut looks = 0;
    while looks < 50 || begun.elapsed() < secs(3) {
        service.cache_stats().await;
        looks += 1;
    }
    let seconds = begun.elapsed().as_secs() + 2;
    let made = calls().await - before;
    assert!(made >= 1 && made <= 40 * seconds, "{made} in {seconds} s");
    // A million keys at the bounded pace take a while.
    let stats = eventually_within(secs(300), "everything is counted", async || {
        let stats = service.cache_stats().await;
        (stats["keys_estimated"] == false).then_some(stats)
    })
    .await;
    assert_eq!(stats["keys"], 100, "{stats}");
}

#[tokio::test]
async fn while_redis_is_gone_nothing_in_it_is_counted() {
    let redis = redis().await;
    let service = over(&redis, &[]).await;
    service.read("key").await;
    counts(&service, 1).await;
    redis.kill().await.unwrap();
    eventually("the count of Redis is dropped", async || {
        (keys(&service).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_redis_the_keys_in_the_process_are_counted() {
    let service = Service::start(&[]).await;
    for n in 0..10 {
        service.read(&n.to_string()).await;
    }
    let stats = service.cache_stats().await;
    assert_eq!(
        (&stats["keys"], &stats["near_keys"]),
        (&10.into(), &10.into()),
        "{stats}"
    );
}
