//! The database: it has no connections left, or is away.

use crate::support::{Service, alerts::assert_firing, eventually, exposition::Scrape, server};

#[tokio::test]
async fn a_server_without_connections_left_is_told() {
    let server = server("5").await;
    let service = Service::start_on(
        &server,
        &[("DB_POOL_MIN", "6"), ("DB_POOL_MAX", "6"), ("CACHE_MODE", "off")],
    )
    .await;
    let mut events = service.watch().await;
    let before = service.scrape().await;
    let verdict = events.verdict("max-connections").await;
    assert_eq!(verdict["level"], "critical");
    assert!(
        verdict["text"].as_str().unwrap().contains("max_connections"),
        "{verdict}"
    );
    let failing = eventually("another connect fails", async || {
        let scrape = service.scrape().await;
        let failures = |scrape: &Scrape| scrape.sum("cenote_pool_connect_failures_total", &[]);
        let limit = scrape.sum("cenote_database_connections_limit", &[]);
        (failures(&scrape) > failures(&before) && limit > 0.0).then_some(scrape)
    })
    .await;
    assert_firing(&before, &failing, &["CenoteConnectFailures", "CenoteFleetTooLarge"]);
}

#[tokio::test]
async fn a_database_that_is_away_is_told_until_it_is_back() {
    let server = server("50").await;
    let service = Service::start_on(&server, &[("CACHE_MODE", "off"), ("DB_POOL_TIMEOUT", "0.2")]).await;
    service.write("key", "value").await;
    let mut events = service.watch().await;
    events.verdict("healthy").await;
    let before = service.scrape().await;
    server.kill().await.unwrap();
    // Until connects have failed for five seconds, callers still wait.
    let verdict = events.verdict("database-away").await;
    assert_eq!(verdict["level"], "critical");
    assert_eq!(events.state["database"]["up"], false);
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_pool_breaker_open", &[]), 1.0);
    assert_firing(&before, &scrape, &["CenoteDatabaseAway", "CenoteConnectFailures"]);
    server.restart().await.unwrap();
    eventually("the database is back", async || {
        events.next().await.unwrap();
        let is_up = events.state["database"]["up"] == true;
        (is_up && !events.has_verdict("database-away")).then_some(())
    })
    .await;
    assert_eq!(service.read("key").await.status, 200);
}
