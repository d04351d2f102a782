//! Of clients that race for one key under a condition, exactly one wins.

use std::sync::Arc;

use serde_json::json;

use super::JSON;
use crate::support::{Connection, Service, encoded, redis};

/// Adds 1 to a counter by compare-and-set, until it succeeds.
async fn add_one(connection: &mut Connection, key: &str) {
    let path = format!("/read/{}", encoded(key));
    loop {
        let read = connection.ask("GET", &path, &[], "").await.unwrap();
        let (value, header) = match read.status {
            404 => (0, ("if-none-match", "*".to_owned())),
            _ => {
                let value: u64 = read.json(200)["value"].as_str().unwrap().parse().unwrap();
                (value, ("if-match", read.headers["etag"].clone()))
            }
        };
        let body = json!({"key": key, "value": (value + 1).to_string()}).to_string();
        let headers = [JSON, (header.0, &*header.1)];
        let written = connection.ask("POST", "/write", &headers, body).await.unwrap();
        match written.status {
            200 => return,
            _ => written.problem(412, "precondition-failed"),
        };
    }
}

#[tokio::test]
async fn a_hundred_concurrent_increments_by_compare_and_set_from_two_instances_sum_exactly() {
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url)];
    let one = Service::start(&settings).await;
    let two = Service::start_with(&one.database, &settings).await;
    let clients = (0..20).map(|n| {
        let address = if n % 2 == 0 { one.address } else { two.address };
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            for _ in 0..5 {
                add_one(&mut connection, "counter").await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for service in [&one, &two] {
        service.holds("counter", "100", 100).await;
    }
}

#[tokio::test]
async fn of_fifty_clients_that_create_one_key_at_once_one_succeeds_also_beside_unconditional_writes() {
    let service = Arc::new(Service::start(&[("DB_POOL_MAX_SIZE", "8")]).await);
    for round in 0..5 {
        let clients = (0..50).map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                // Unconditional writes share the statements.
                service.write(&format!("other/{round}/{n}"), "value").await;
                let key = format!("one/{round}");
                service
                    .write_if(&key, &n.to_string(), &[("if-none-match", "*")])
                    .await
                    .status
            })
        });
        let mut statuses = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            statuses.push(client.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses[0], 200);
        assert!(statuses[1..].iter().all(|status| *status == 412), "{statuses:?}");
    }
}
