//! The pool: all connections in use, one of them leaked, a pause.

use serde_json::json;

use super::{ALONE, is_over, read_later, watched};
use crate::support::{alerts::assert_firing, eventually};

#[tokio::test]
async fn an_exhausted_pool_is_told_within_two_seconds_with_the_line_that_holds_the_connection() {
    let (service, mut events) = watched(&ALONE).await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv").await;
    let before = service.scrape().await;
    let first = read_later(&service);
    session.sees_blocked(1).await;
    let second = read_later(&service);
    // Until the verdict, no row shows a request that has waited for two seconds.
    let mut longest = 0;
    let verdict = loop {
        let verdicts = events.state["verdicts"].as_array().unwrap();
        if let Some(verdict) = verdicts.iter().find(|verdict| verdict["name"] == "pool-exhausted") {
            break verdict.clone();
        }
        let (name, data) = events.next().await.unwrap();
        if name == "row" {
            longest = data[12].as_u64().unwrap();
        }
    };
    assert!(longest < 2_000_000, "{longest} µs");
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.starts_with("All 1 connections are in use and 1 request waits, the first for "),
        "{text}"
    );
    assert!(text.contains("Held longest: ") && text.contains(".rs:"), "{text}");
    let [slot] = &events.state["slots"].as_array().unwrap()[..] else {
        panic!("{}", events.state["slots"]);
    };
    assert_eq!(slot["state"], "in-use");
    assert!(
        slot["age_ms"].as_u64() >= Some(100) && slot["holder"].as_str().unwrap().contains(".rs:"),
        "{slot}"
    );
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_pool_connections", &[("state", "in_use")]), 1.0);
    assert!(scrape.sum("cenote_queue_longest_wait_seconds", &[]) > 0.2);
    assert_firing(&before, &scrape, &["CenotePoolExhausted"]);
    session.run("ROLLBACK").await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200));
    // The wait is over, though it was long.
    is_over(&mut events, "pool-exhausted").await;
}

#[tokio::test]
async fn a_leaked_connection_is_told_with_the_line_that_holds_it() {
    let mut settings = ALONE.to_vec();
    settings.extend([("DB_POOL_LEAK_AFTER", "0.3"), ("DB_SLOW_QUERY", "0")]);
    let (service, mut events) = watched(&settings).await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv").await;
    let before = service.scrape().await;
    let read = read_later(&service);
    let verdict = events.verdict("leak").await;
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.starts_with("1 connection has been held for longer than DB_POOL_LEAK_AFTER, 300 ms"),
        "{text}"
    );
    assert!(text.contains("Held longest: ") && text.contains(".rs:"), "{text}");
    let slot = &events.state["slots"][0];
    assert!(slot["holder"].as_str().unwrap().contains(".rs:"), "{slot}");
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_pool_leaked", &[]), 1.0);
    assert_firing(&before, &scrape, &["CenoteLeak"]);
    let warned = service
        .logged("a caller has held a connection for too long; is it leaked?")
        .await;
    assert!(warned["held"].as_str().unwrap().contains(".rs:"), "{warned}");
    session.run("ROLLBACK").await;
    assert_eq!(read.await.unwrap(), 200);
    is_over(&mut events, "leak").await;
    eventually("the metric is back", async || {
        (service.scrape().await.sum("cenote_pool_leaked", &[]) == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pause_is_told_until_it_ends() {
    let (service, mut events) = watched(&[("CACHE_MODE", "off")]).await;
    service.post("/admin/pause", &json!({"seconds": 600})).await.json(200);
    events.verdict("paused").await;
    let until = events.state["pool"]["paused"]["until"].as_u64().unwrap();
    assert!(until > 1_700_000_000_000, "{until}");
    service.post("/admin/resume", &json!({})).await.json(200);
    events.verdict("healthy").await;
    assert!(events.state["pool"]["paused"].is_null());
}
