//! How many statements the cache saves the database, counted rather than timed.

use serde_json::json;

use crate::support::{Connection, Service};

const KEYS: usize = 10_000;
const WRITES_OF_100: usize = 5;

/// Keys by Zipf's law: the n-th is requested 1/n times as often as the first.
struct Zipf {
    sums: Vec<f64>,
    random: fastrand::Rng,
}

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        let share = |rank: usize| {
            sum += 1.0 / rank as f64;
            sum
        };
        Self {
            sums: (1..=KEYS).map(share).collect(),
            random: fastrand::Rng::with_seed(7),
        }
    }

    fn key(&mut self) -> String {
        let at = self.random.f64() * self.sums[KEYS - 1];
        let rank = self.sums.partition_point(|sum| *sum < at);
        // Neighbours in rank are not neighbours in the table.
        format!("key{}", rank * 7919 % KEYS)
    }
}

/// Inserts a row for each key.
async fn filled(service: &Service) {
    let session = service.database.session().await;
    session
        .run(&format!(
            "INSERT INTO kv SELECT 'key' || n, repeat('x', 100) FROM generate_series(0, {}) n",
            KEYS - 1
        ))
        .await;
}

/// One client, so that no two requests share a statement.
async fn ask(connection: &mut Connection, zipf: &mut Zipf, requests: usize) {
    for _ in 0..requests {
        let key = zipf.key();
        let answer = match zipf.random.usize(..100) < WRITES_OF_100 {
            true => {
                let body = json!({"key": key, "value": "y".repeat(100)});
                connection.post("/write", &body).await
            }
            false => {
                let path = format!("/read/{key}");
                connection.ask("GET", &path, &[], "").await
            }
        };
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test]
async fn of_95_reads_and_5_writes_nine_in_ten_reads_are_hits_and_nine_in_ten_statements_are_saved() {
    let off = Service::start(&[("CACHE_MODE", "off")]).await;
    filled(&off).await;
    let before = off.queries().await;
    ask(&mut off.connect().await, &mut Zipf::new(), 500).await;
    assert_eq!(off.queries().await - before, 500, "one for each, uncached");

    let service = Service::start(&[]).await;
    filled(&service).await;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key{n}")).collect();
    for keys in keys.chunks(1000) {
        service.post("/read", &json!({ "keys": keys })).await;
    }
    let count = async |name: &str| service.cache_stats().await[name].as_u64().unwrap();
    let (hits, misses) = (count("hits").await, count("misses").await);
    let before = service.queries().await;
    let requests = 8_000;
    ask(&mut service.connect().await, &mut Zipf::new(), requests).await;
    let statements = service.queries().await - before;
    let (hits, misses) = (count("hits").await - hits, count("misses").await - misses);
    let hit_rate = hits as f64 / (hits + misses) as f64;
    println!("{requests} requests: {statements} statements, hit rate {hit_rate:.3}");
    assert!(hit_rate >= 0.9, "{hits} hits, {misses} misses");
    let saved = 1.0 - statements as f64 / requests as f64;
    assert!(saved >= 0.9, "{statements} statements for {requests} requests");
}
