//! Limits that refuse: callers that ask too often, and somebody who guesses credentials.

use super::watched;
use crate::support::{Events, Service, alerts::assert_firing, create_key};

#[tokio::test]
async fn limits_that_refuse_many_requests_are_told() {
    let (service, mut events) = watched(&[
        ("RATE_LIMIT_CLASSES", "search=GET /users:60/h burst=3"),
        ("CACHE_MODE", "off"),
    ])
    .await;
    let before = service.scrape().await;
    for _ in 0..40 {
        service.get("/users").await;
    }
    let verdict = events.verdict("limits-refuse").await;
    assert_eq!(verdict["level"], "info");
    let text = verdict["text"].as_str().unwrap();
    assert!(text.contains("status 429") && !text.contains("127.0.0.1"), "{text}");
    let scrape = service.scrape().await;
    let searches = [("class", "search")];
    assert!(scrape.sum("cenote_limit_refused_total", &searches) >= 30.0);
    assert!(scrape.sum("cenote_http_requests_total", &[("code", "4xx")]) >= 30.0);
    assert_firing(&before, &scrape, &["CenoteLimitsRefuse"]);
}

#[tokio::test]
async fn guessed_credentials_are_told() {
    let service = Service::start(&[("AUTH", "keys"), ("AUTH_OPEN", "metrics"), ("CACHE_MODE", "off")]).await;
    let key = create_key(&service.database, "metrics").await;
    let bearer = format!("Bearer {key}");
    let mut events = Events::open(service.address, "/dashboard/events", &[("authorization", &bearer)]).await;
    events.next_of("start").await;
    let before = service.scrape().await;
    for _ in 0..150 {
        service.ask("GET", "/read/key", &[("x-api-key", "guess")], "").await;
    }
    events.verdict("guessed-credentials").await;
    let scrape = service.scrape().await;
    assert!(scrape.sum("cenote_limit_refused_total", &[("class", "auth-failures")]) > 100.0);
    assert_firing(&before, &scrape, &["CenoteGuessedCredentials"]);
}
