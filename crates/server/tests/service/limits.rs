//! Rate limits, as callers of the whole service meet them.

use serde_json::json;

use crate::support::{Answer, Service};

const SEARCH: (&str, &str) = ("RATE_LIMIT_CLASSES", "search=GET /users:60/h burst=3");

/// Searches as the client of this address, as a proxy names it. Returns the status.
async fn search(service: &Service, client: &str) -> u16 {
    let headers = [("x-forwarded-for", client)];
    service.ask("GET", "/users", &headers, "").await.status
}

async fn statuses(service: &Service, clients: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for client in clients {
        statuses.push(search(service, client).await);
    }
    statuses
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(String::as_str)
}

#[tokio::test]
async fn beyond_its_limit_a_caller_is_told_when_to_try_again_and_other_routes_are_not_limited() {
    let service = Service::start(&[SEARCH]).await;
    for left in ["2", "1", "0"] {
        let answer = service.get("/users").await;
        assert_eq!(answer.status, 200);
        let policy = header(&answer, "ratelimit-policy").unwrap();
        assert_eq!(policy, "\"search\";q=60;w=3600;cenote-burst=3");
        let limit = header(&answer, "ratelimit").unwrap();
        assert!(limit.starts_with(&format!("\"search\";r={left};t=")), "{limit}");
    }
    // Other spellings of the path, and HEAD, count as well.
    for (method, path) in [
        ("GET", "/users"),
        ("GET", "/users/"),
        ("HEAD", "/users"),
        ("GET", "/%75sers"),
    ] {
        assert_eq!(service.ask(method, path, &[], "").await.status, 429, "{method} {path}");
    }
    let refused = service.get("/users").await;
    let problem = refused.problem(429, "too-many-requests");
    assert_eq!(problem["violated-policies"], json!(["search"]));
    let wait: u32 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((50..=66).contains(&wait), "{wait}");
    assert!(header(&refused, "ratelimit").unwrap().starts_with("\"search\";r=0;t="));
    let other = service.get("/users/1").await;
    assert_eq!((other.status, header(&other, "ratelimit")), (404, None));
}

#[tokio::test]
async fn a_header_that_a_client_writes_itself_gives_it_no_other_limit() {
    let service = Service::start(&[SEARCH]).await;
    let clients = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4", "127.0.0.1"];
    assert_eq!(statuses(&service, &clients).await, [200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_limit_and_a_network_of_ipv6_is_one_client() {
    let service = Service::start(&[SEARCH, ("TRUSTED_PROXIES", "127.0.0.0/8 10.0.0.0/8")]).await;
    let same = [
        "9.9.9.9, 1.1.1.1",
        "8.8.8.8, 1.1.1.1",
        "1.1.1.1, 10.0.0.3",
        "1.1.1.1",
        "2.2.2.2",
    ];
    assert_eq!(statuses(&service, &same).await, [200, 200, 200, 429, 200]);
    let network = [
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:0:f::",
        "2001:db8::9",
        "2001:db8:0:1::1",
    ];
    assert_eq!(statuses(&service, &network).await, [200, 200, 200, 429, 200]);
}
