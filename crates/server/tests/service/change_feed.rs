//! Writes that bypass the service, as from psql, are seen almost at once, and none is missed while no session listens.

use cenote_testing::Proxy;
use serde_json::json;

use crate::support::{Database, Launch, Service, eventually, redis, server};

const NOTIFY: (&str, &str) = ("CACHE_FEED", "notify");

/// Reads until the value is the new one; until then it is the old one.
async fn sees(service: &Service, key: &str, before: &str, value: &str) {
    eventually("the change is seen", async || {
        let read = service.read(key).await.json(200);
        let found = read["value"].as_str().unwrap();
        assert!([before, value].contains(&found), "{read}");
        (found == value).then_some(())
    })
    .await;
}

async fn is_cached(service: &Service, key: &str) {
    eventually("it is cached", async || {
        let read = service.read(key).await.json(200);
        (read["from_cache"] == true).then_some(())
    })
    .await;
}

async fn feed(service: &Service, name: &str) -> u64 {
    service.cache_stats().await["feed"][name].as_u64().unwrap()
}

/// Each kind of statement that changes a row.
async fn every_kind_of_change_is_seen(service: &Service) {
    let session = service.database.session().await;
    for key in ["a", "b", "c"] {
        service.write(key, "old").await;
        is_cached(service, key).await;
    }
    service.read("new").await.problem(404, "not-found");
    session
        .run("UPDATE kv SET value = 'changed' WHERE key IN ('a', 'b')")
        .await;
    sees(service, "a", "old", "changed").await;
    sees(service, "b", "old", "changed").await;
    session.run("INSERT INTO kv VALUES ('new', 'inserted')").await;
    eventually("the row is seen", async || {
        (service.read("new").await.status == 200).then_some(())
    })
    .await;
    is_cached(service, "c").await;
    session.run("UPDATE kv SET key = 'moved' WHERE key = 'c'").await;
    eventually("it is gone from here", async || {
        (service.read("c").await.status == 404).then_some(())
    })
    .await;
    sees(service, "moved", "old", "old").await;
    session.run("DELETE FROM kv WHERE key = 'moved'").await;
    eventually("the row is gone", async || {
        (service.read("moved").await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_one_process_every_kind_of_change_is_seen() {
    let service = Service::start(&[NOTIFY]).await;
    every_kind_of_change_is_seen(&service).await;
    let session = service.database.session().await;
    // More keys than a notification names.
    is_cached(&service, "a").await;
    let before = feed(&service, "everything").await;
    session
        .run("INSERT INTO kv SELECT 'many' || n, 'value' FROM generate_series(1, 1001) n")
        .await;
    eventually("everything is dropped", async || {
        (feed(&service, "everything").await > before).then_some(())
    })
    .await;
    session.run("TRUNCATE kv").await;
    eventually("nothing is left", async || {
        (service.read("a").await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_redis_every_kind_of_change_is_seen() {
    let redis = redis().await;
    let settings = [NOTIFY, ("REDIS_URL", &*redis.url())];
    let service = Service::start(&settings).await;
    service.uses_its_cache().await;
    every_kind_of_change_is_seen(&service).await;
}

#[tokio::test]
async fn keys_of_any_length_and_kind_are_told_apart() {
    let service = Service::start(&[NOTIFY]).await;
    let session = service.database.session().await;
    let mut keys: Vec<String> = (0..10).map(|n| format!("{n}{}", "x".repeat(2047))).collect();
    keys.extend(["\"quoted\"", "back\\slash", "new\nline", "żółw", "[", "*"].map(String::from));
    for key in &keys {
        service.write(key, "old").await;
        is_cached(&service, key).await;
    }
    let before = feed(&service, "everything").await;
    session.run("UPDATE kv SET value = 'new'").await;
    for key in &keys {
        sees(&service, key, "old", "new").await;
    }
    eventually("each is counted once", async || {
        (feed(&service, "keys").await == keys.len() as u64).then_some(())
    })
    .await;
    assert_eq!(feed(&service, "everything").await, before);
}

#[tokio::test]
async fn the_service_is_not_notified_of_its_own_writes() {
    let service = Service::start(&[NOTIFY]).await;
    for n in 0..20 {
        service.write(&n.to_string(), "value").await;
    }
    service.delete("/read/3").await;
    is_cached(&service, "7").await;
    let session = service.database.session().await;
    session.run("UPDATE kv SET value = 'last' WHERE key = '7'").await;
    sees(&service, "7", "value", "last").await;
    // Notifications arrive in order, so earlier ones would be counted by now.
    eventually("it is counted", async || {
        (feed(&service, "keys").await > 0).then_some(())
    })
    .await;
    assert_eq!(feed(&service, "keys").await, 1);
    eventually("the lag is measured", async || {
        let feed = service.cache_stats().await["feed"].clone();
        (feed["lag_ms"].as_f64().unwrap() > 0.0 && feed["listening"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_while_no_session_listens_is_seen_afterwards() {
    let redis = redis().await;
    for shared in [false, true] {
        let mut settings = vec![NOTIFY];
        let url = redis.url();
        if shared {
            settings.push(("REDIS_URL", &url));
        }
        let postgres = server("100").await;
        let database = Database::create_on(&postgres).await;
        let service = Service::start_with(&database, &settings).await;
        service.uses_its_cache().await;
        service.write("key", "old").await;
        is_cached(&service, "key").await;
        let session = database.session().await;
        let before = feed(&service, "everything").await;
        // In one transaction: the listening session has ended before the change is committed.
        session
            .run(
                "BEGIN; \
                 SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE application_name = 'cenote feed' AND datname = current_database(); \
                 UPDATE kv SET value = 'new' WHERE key = 'key'; COMMIT",
            )
            .await;
        eventually("it listens again", async || {
            (feed(&service, "everything").await > before).then_some(())
        })
        .await;
        sees(&service, "key", "old", "new").await;
        let stats = service.cache_stats().await;
        assert_eq!(stats["feed"]["listening"], true, "{stats}");
    }
}

#[tokio::test]
async fn a_session_that_is_cut_off_silently_is_noticed_and_replaced() {
    let service_database = Database::create().await;
    let shared = crate::support::shared_server().await;
    let proxy = Proxy::to(([127, 0, 0, 1], shared.port())).await.unwrap();
    let through = Database {
        name: service_database.name.clone(),
        url: proxy.url(&service_database.url),
    };
    let service = Service::start_with(&through, &[NOTIFY]).await;
    service.write("key", "old").await;
    is_cached(&service, "key").await;
    let session = service_database.session().await;
    proxy.freeze();
    session.run("UPDATE kv SET value = 'new'").await;
    let health = eventually("health tells of it", async || {
        let health = service.get("/health").await;
        let body: serde_json::Value = serde_json::from_slice(&health.body).unwrap();
        let problem = body["cache"]["problem"].as_str();
        problem.is_some_and(|it| it.contains("feed")).then_some(body)
    })
    .await;
    assert_ne!(health["status"], "ok");
    proxy.cut().await;
    proxy.heal();
    sees(&service, "key", "old", "new").await;
    service.is_ready().await;
}

#[tokio::test]
async fn without_the_feed_there_are_no_triggers_and_dropping_the_function_removes_them() {
    let database = Database::create().await;
    let migrate = |feed| {
        Launch::new(&["migrate"])
            .env("DATABASE_URL", &database.url)
            .env("CACHE_FEED", feed)
    };
    let session = database.session().await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cenote_feed_%'";
    for (feed, count) in [("off", 0), ("notify", 4), ("notify", 4), ("off", 4)] {
        let ended = migrate(feed).run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(session.number(triggers).await, count, "{feed}");
    }
    session.run("DROP FUNCTION cenote_feed CASCADE").await;
    assert_eq!(session.number(triggers).await, 0);
    let service = Service::start_with(&database, &[]).await;
    service.write("key", "value").await;
    assert_eq!(service.cache_stats().await["feed"], json!(null));
}
