//! `cenote key`, and a start that would let anybody in.

use serde_json::Value;

use crate::support::{AT_ONCE, Database, Ended, Launch, Service};

async fn key(database: &Database, arguments: &[&str]) -> Ended {
    let all = [&["key"], arguments].concat();
    Launch::new(&all).env("DATABASE_URL", &database.url).run().await
}

#[tokio::test]
async fn a_new_key_is_alone_on_standard_output() {
    let database = Database::create().await;
    let created = key(
        &database,
        &["create", "--name", "shop", "--scope", "read,write", "--expires", "90d"],
    )
    .await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let text = created.output.strip_suffix('\n').unwrap();
    assert!(text.starts_with("cnk_") && text.len() == 40, "{text}");
    assert!(
        created.log.contains("created key 1") && !created.log.contains(text),
        "{}",
        created.log
    );
    let listed = key(&database, &["list", "--json"]).await;
    let keys: Value = serde_json::from_str(&listed.output).unwrap();
    assert_eq!(
        (&keys[0]["name"], &keys[0]["state"]),
        (&Value::from("shop"), &Value::from("valid"))
    );
    assert_eq!(keys[0]["hint"], text[..6]);
    assert!(
        keys[0]["expires"].is_string() && keys[0]["last_used"].is_null(),
        "{keys}"
    );
    assert!(!listed.output.contains(text));
    let rotated = key(&database, &["rotate", "shop", "--overlap", "1h"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert_ne!(rotated.output, created.output);
    let revoked = key(&database, &["revoke", text]).await;
    assert_eq!((revoked.code, revoked.output.as_str()), (Some(0), ""), "{revoked:?}");
    assert!(revoked.log.contains("within a second"), "{}", revoked.log);
    let listed = key(&database, &["list"]).await.output;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[1].contains("revoked") && lines[2].contains("valid"), "{listed}");
    let again = key(&database, &["revoke", "1"]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
}

#[tokio::test]
async fn a_wrong_argument_is_refused_before_the_database_is_asked() {
    let database = Database {
        name: "none".to_owned(),
        url: "postgresql://192.0.2.1/none".to_owned(),
    };
    for arguments in [
        &["create", "--name", "7", "--scope", "read"][..],
        &["create", "--name", "shop", "--scope", "reed"],
        &["create", "--name", "shop"],
        &["create", "--name", "shop", "--scope", "read", "--expires", "tomorrow"],
        &["create", "--name", "shop", "--scope", "read", "--limit", "fast"],
        &["revoke", "cnk_typo"],
        &[],
    ] {
        let ended = key(&database, arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.took < AT_ONCE);
    }
}

#[tokio::test]
async fn the_first_key_is_written_into_a_file_once() {
    let database = Database::create().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("first-key");
    let settings = [("AUTH", "keys"), ("CENOTE_BOOTSTRAP_KEY_FILE", path.to_str().unwrap())];
    let service = Service::start_with(&database, &settings).await;
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("cnk_"), "{written}");
    assert!(!service.log().contains(written.trim()), "{}", service.log());
    service.stop(AT_ONCE).await;
    let service = Service::start_with(&database, &settings).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let keys: Value = serde_json::from_str(&key(&database, &["list", "--json"]).await.output).unwrap();
    assert_eq!(keys.as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(keys[0]["scopes"], "read,write,admin,metrics");
    drop(service);
}

#[tokio::test]
async fn instances_that_start_together_take_one_first_key_and_another_file_is_named() {
    let database = Database::create().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("first-key");
    let settings = [("AUTH", "keys"), ("CENOTE_BOOTSTRAP_KEY_FILE", path.to_str().unwrap())];
    let launched = (0..3).map(|_| Service::launch_with(&database, &settings));
    let instances = futures_util::future::join_all(launched).await;
    for instance in &instances {
        instance.is_ready().await;
    }
    let first = std::fs::read_to_string(&path).unwrap();
    for instance in &instances {
        let health = instance.ask("GET", "/health", &[("x-api-key", first.trim())], "").await;
        assert_eq!(health.status, 200, "{}", instance.log());
        assert!(!instance.log().contains("is not in the database"), "{}", instance.log());
    }
    let other = key(
        &Database::create().await,
        &["create", "--name", "other", "--scope", "read"],
    )
    .await;
    std::fs::write(&path, &other.output).unwrap();
    let service = Service::start_with(&database, &settings).await;
    let warning = "the key in CENOTE_BOOTSTRAP_KEY_FILE is not in the database";
    assert!(service.log().contains(warning), "{}", service.log());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other.output);
}

#[tokio::test]
async fn each_change_of_a_key_leaves_a_line_in_the_audit_log_without_the_key() {
    let database = Database::create().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let key = async |arguments: &[&str]| {
        Launch::new(&[&["key"], arguments].concat())
            .env("DATABASE_URL", &database.url)
            .env("AUDIT_LOG", file.to_str().unwrap())
            .run()
            .await
    };
    let created = key(&["create", "--name", "shop", "--scope", "read"]).await;
    let first = created.output.trim();
    key(&["list"]).await;
    let rotated = key(&["rotate", "1"]).await;
    key(&["revoke", "shop"]).await;
    assert_eq!(key(&["revoke", first]).await.code, Some(1));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(first) && !text.contains(rotated.output.trim()), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        ("cenote key create", "key 1 (shop)", 0),
        ("cenote key rotate", "key 2 (shop)", 0),
        ("cenote key revoke", "key 1 (shop), key 2 (shop)", 0),
        (
            "cenote key revoke",
            "no valid key is meant; `cenote key list` shows them",
            1,
        ),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (what, detail, result)) in lines.iter().zip(expected) {
        assert_eq!((&line["what"], &line["detail"]), (&what.into(), &detail.into()));
        assert_eq!(line["result"], result);
        assert!(line["who"].as_str().unwrap().starts_with("uid "), "{line}");
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let created = key(&["create", "--name", "other", "--scope", "read"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    assert!(created.log.contains("cannot write to AUDIT_LOG"), "{}", created.log);
}
