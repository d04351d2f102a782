//! Changes with and without conditions have one order, also across instances and crashes of PostgreSQL.

use tokio_postgres::NoTls;

use super::history::{Action, Event, History, Outcome, check, record, taken};
use crate::support::{Database, Service, eventually, redis, server};

#[tokio::test]
async fn writes_and_deletes_with_and_without_conditions_from_two_instances_have_one_order() {
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url)];
    let one = Service::start(&settings).await;
    let two = Service::start_with(&one.database, &settings).await;
    let history = History::default();
    record([&one, &two], 60, &history).await;
    let history = taken(&history);
    check(&history);
    let refused = |event: &&Event| matches!(event.outcome, Outcome::Refused(1..));
    let made = |event: &&Event| matches!(event.outcome, Outcome::Made(_));
    assert!(history.iter().filter(refused).count() > 10, "conditions did fail");
    assert!(history.iter().filter(made).count() > 100, "changes were made");
}

#[tokio::test]
async fn no_conditional_write_is_acknowledged_falsely_while_postgresql_is_killed() {
    let server = server("100").await;
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url), ("DB_POOL_TIMEOUT", "5")];
    let database = Database::create_on(&server).await;
    let one = Service::start_with(&database, &settings).await;
    let two = Service::start_with(&database, &settings).await;
    let history = History::default();
    let running = record([&one, &two], 150, &history);
    // Of 1500 events in all, each server has a few hundred in its time.
    let killing = async {
        for kill in 1..=2 {
            eventually("clients are at work", async || {
                (history.lock().unwrap().len() >= kill * 300).then_some(())
            })
            .await;
            let before = history.lock().unwrap().len();
            server.kill().await.unwrap();
            let unknown = |event: &Event| event.outcome == Outcome::Unknown;
            eventually("somebody notices", async || {
                history.lock().unwrap()[before..].iter().any(unknown).then_some(())
            })
            .await;
            server.restart().await.unwrap();
        }
    };
    tokio::join!(running, killing);
    let history = taken(&history);
    check(&history);
    // The row in the database is of the last change that was acknowledged, or of one whose outcome is unknown.
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for row in client.query("SELECT key, value, version FROM kv", &[]).await.unwrap() {
        let (key, value, version): (&str, Option<&str>, i64) = (row.get(0), row.get(1), row.get(2));
        for event in history.iter().filter(|event| event.key == key) {
            let Outcome::Made(made) = event.outcome else {
                continue;
            };
            assert!(made <= version, "lost: {event:?}, there is {version}");
            if made == version {
                let written = match &event.action {
                    Action::Write { value, .. } => Some(&**value),
                    _ => None,
                };
                assert_eq!(written, value, "{event:?}");
            }
        }
    }
    one.get("/pool-stats").await.json(200);
}
