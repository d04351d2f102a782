//! What is open, the first key, and how long keys outlast the database.

use super::{Reloading, status};
use crate::support::{Database, eventually, server};

#[tokio::test]
async fn what_is_open_the_first_key_and_how_long_keys_outlast_the_database() {
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nAUTH=keys\nRATE_LIMIT_AUTH_FAILURES=off\n";
    let server = server("50").await;
    let database = Database::create_on(&server).await;
    let it = Reloading::start_with(database, base, "AUTH_STALE=3600\n").await;
    assert_eq!(status(&it.service, None).await, 401);
    it.set("AUTH_STALE=3600\nAUTH_OPEN=docs\n", &["AUTH_OPEN"]).await;
    assert_eq!(status(&it.service, None).await, 200);
    it.set(
        "AUTH_STALE=3600\nCENOTE_BOOTSTRAP_KEY_FILE=first\n",
        &["AUTH_OPEN", "CENOTE_BOOTSTRAP_KEY_FILE"],
    )
    .await;
    assert_eq!(status(&it.service, None).await, 401);
    let key = eventually("the first key is created", async || {
        let key = std::fs::read_to_string(it.service.path("first")).ok()?;
        (status(&it.service, Some(key.trim())).await == 200).then(|| key.trim().to_owned())
    })
    .await;
    server.kill().await.unwrap();
    // Known keys go on for the least time, five seconds, and for no hour.
    it.set("AUTH_STALE=0\nCENOTE_BOOTSTRAP_KEY_FILE=first\n", &["AUTH_STALE"])
        .await;
    eventually("the key is no longer accepted", async || {
        (status(&it.service, Some(&key)).await == 503).then_some(())
    })
    .await;
}
