//! Statements: a slow one, and a lock.

use serde_json::json;

use super::{ALONE, is_over, read_later, watched};
use crate::support::{alerts::assert_firing, eventually};

#[tokio::test]
async fn a_slow_statement_is_told_while_it_runs() {
    let mut settings = ALONE.to_vec();
    settings.push(("DB_SLOW_QUERY", "0.3"));
    let (service, mut events) = watched(&settings).await;
    let before = service.scrape().await;
    let session = service.database.session().await;
    session.run("BEGIN; LOCK TABLE kv").await;
    let read = read_later(&service);
    let running = events.verdict("slow-statements").await;
    let text = running["text"].as_str().unwrap();
    assert!(text.contains("or one that waits for a lock"), "{text}");
    session.run("ROLLBACK").await;
    assert_eq!(read.await.unwrap(), 200);
    eventually("the statement is told after its end", async || {
        events.next().await.unwrap();
        let text = events.state["verdicts"][0]["text"].as_str()?;
        text.starts_with("1 statement of the last minute took longer than DB_SLOW_QUERY, 300 ms")
            .then_some(())
    })
    .await;
    let statement = eventually("the list has it", async || {
        let statement = events.state["statements"][0].clone();
        if statement.is_null() {
            events.next().await.unwrap();
        }
        (!statement.is_null()).then_some(statement)
    })
    .await;
    assert!(statement["execute_us"].as_u64() >= Some(300_000), "{statement}");
    assert!(statement["holder"].as_str().unwrap().contains(".rs:"), "{statement}");
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_statements_slow_total", &[]), 1.0);
    let reads = [("statement", "key.read")];
    assert!(scrape.sum("cenote_statement_duration_seconds_sum", &reads) > 0.3);
    assert_firing(&before, &scrape, &["CenoteSlowStatements"]);
}

#[tokio::test]
async fn a_lock_that_a_write_waits_for_is_told_until_it_is_free() {
    let (service, mut events) = watched(&[("CACHE_MODE", "off"), ("COMMAND_TIMEOUT", "60")]).await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'key'")
        .await;
    let before = service.scrape().await;
    let writing = tokio::spawn({
        let mut connection = service.connect().await;
        async move { connection.post("/write", &json!({"key": "key", "value": "two"})).await }
    });
    let verdict = events.verdict("lock-wait").await;
    assert_eq!(verdict["level"], "warning");
    assert!(
        verdict["text"].as_str().unwrap().contains("pg_blocking_pids"),
        "{verdict}"
    );
    let scrape = service.scrape().await;
    let writes = [("queue", "writes")];
    assert!(scrape.sum("cenote_queue_longest_lock_wait_seconds", &writes) > 0.25);
    assert_firing(&before, &scrape, &["CenoteLockWait"]);
    session.run("ROLLBACK").await;
    assert!(writing.await.unwrap().is_ok());
    let failed = [("statement", "key.write"), ("class", "55")];
    let scrape = service.scrape().await;
    assert!(scrape.sum("cenote_statement_errors_total", &failed) >= 1.0);
    assert_eq!(scrape.sum("cenote_queue_longest_lock_wait_seconds", &[]), 0.0);
    // A statement that gave up on the lock for a while is no reason to go on about it.
    is_over(&mut events, "lock-wait").await;
}
