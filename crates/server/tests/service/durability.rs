//! An acknowledged write outlives a crash, or the program warns that it may not.

use crate::support::{Database, Launch, Service};

async fn check(database: &Database) -> (Option<i32>, String) {
    let launch = Launch::new(&["check"]).env("DATABASE_URL", &database.url);
    let ended = launch.run().await;
    let line = ended.output.lines().find(|line| line.contains("durability: "));
    (ended.code, line.unwrap_or_else(|| panic!("{ended:?}")).to_owned())
}

async fn migrated(database: &Database) {
    let launch = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url);
    assert_eq!(launch.run().await.code, Some(0));
}

#[tokio::test]
async fn check_names_the_setting_that_may_lose_a_write_where_it_was_set_and_the_cure() {
    let database = Database::create_durable().await;
    migrated(&database).await;
    let (code, line) = check(&database).await;
    assert_eq!((code, &line[..4]), (Some(0), "PASS"), "{line}");
    let session = database.session().await;
    let name = &database.name;
    let off = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    session.run(&off).await;
    let (code, line) = check(&database).await;
    assert_eq!((code, &line[..4]), (Some(1), "FAIL"), "{line}");
    for part in ["synchronous_commit is \"off\"", "set for the database"] {
        assert!(line.contains(part), "{line}");
    }
    // The command that the check names is a cure.
    let cure = line.split("Run: ").nth(1).unwrap();
    session.run(cure).await;
    let (code, line) = check(&database).await;
    assert_eq!((code, &line[..4]), (Some(0), "PASS"), "{line}");

    for table in ["kv", "users", "cache_epoch"] {
        session.run(&format!("ALTER TABLE {table} SET UNLOGGED")).await;
        let (_, line) = check(&database).await;
        assert!(line.starts_with("FAIL") && line.contains(table), "{line}");
        session.run(line.split("Run: ").nth(1).unwrap()).await;
    }

    let mut own = database.clone();
    own.url += "?options=-c%20synchronous_commit%3Doff";
    let (_, line) = check(&own).await;
    assert!(line.starts_with("FAIL") && line.contains("DATABASE_URL"), "{line}");

    // `local` waits for the disk of this machine, which is enough to pass.
    session
        .run(&format!("ALTER DATABASE {name} SET synchronous_commit = local"))
        .await;
    assert!(check(&database).await.1.starts_with("PASS"));
}

/// Such as the servers that most of these tests use.
#[tokio::test]
async fn a_server_that_does_not_wait_for_its_disk_fails_the_check() {
    let database = Database::create().await;
    migrated(&database).await;
    let (code, line) = check(&database).await;
    assert_eq!(code, Some(1));
    for part in [
        "fsync is \"off\"",
        "full_page_writes is \"off\"",
        "ALTER SYSTEM SET fsync = on",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn a_service_whose_writes_may_be_lost_says_so_once_and_serves() {
    let database = Database::create_durable().await;
    let durable = Service::start_with(&database, &[]).await;
    durable.logged("ready").await;
    assert!(!durable.log().contains("may be lost"), "{}", durable.log());
    let session = database.session().await;
    let off = format!("ALTER DATABASE {} SET synchronous_commit = off", database.name);
    session.run(&off).await;
    let service = Service::start_with(&database, &[]).await;
    let warning = service.logged("writes that are answered").await;
    assert_eq!(warning["level"], "WARN");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("synchronous_commit"), "{message}");
    service.write("key", "value").await;
    service.logged("ready").await;
    assert_eq!(service.log().matches("may be lost").count(), 1);
}
