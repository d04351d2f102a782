//! Databases with encodings and locales other than UTF-8 and C: a value that they cannot store is refused by itself,
//! and addresses are compared the same way in each of them.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Database, Launch, Service, encoded};

const CRAB: &str = "\u{1f980}";

#[tokio::test]
async fn a_value_that_the_encoding_does_not_have_is_422_and_its_neighbours_are_written() {
    for encoding in ["LATIN1", "EUC_JP"] {
        let options = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        let database = Database::create_with(&options).await;
        let service = Service::start_with(&database, &[("CACHE_MODE", "off")]).await;
        let writes = (0..40).map(|n| {
            let body = match n {
                13 => json!({"key": "13", "value": CRAB}),
                27 => json!({"key": format!("27 {CRAB}"), "value": "v"}),
                _ => json!({"key": n.to_string(), "value": "d\u{e9}j\u{e0} vu"}),
            };
            let service = &service;
            async move { service.post("/write", &body).await }
        });
        for (n, written) in join_all(writes).await.into_iter().enumerate() {
            match n {
                13 => assert_eq!(written.wrong_fields(), ["value"], "{encoding}"),
                27 => assert_eq!(written.wrong_fields(), ["key"], "{encoding}"),
                _ => assert_eq!(written.status, 200, "{encoding}: {}", written.text()),
            }
        }
        let read = service.read("7").await.json(200);
        assert_eq!(read["value"], "d\u{e9}j\u{e0} vu");
        // A key that the encoding cannot store is absent.
        service.read(CRAB).await.problem(404, "not-found");
        let path = format!("/read/{}", encoded(CRAB));
        service.delete(&path).await.problem(404, "not-found");
        let many = service.post("/read", &json!({"keys": ["7", CRAB, "8"]})).await;
        let many = many.json(200);
        assert_eq!(many["missing"], json!([CRAB]));
        assert_eq!(many["found"].as_object().unwrap().len(), 2);
        let user = |name: &str| json!({"name": name, "email": "ada@example.org"});
        let refused = service.post("/users/", &user(CRAB)).await;
        assert_eq!(refused.wrong_fields(), ["name"]);
        service.post("/users/", &user("Zo\u{eb}")).await.json(201);
    }
}

#[tokio::test]
async fn a_value_that_the_encoding_does_not_have_is_422_also_with_a_cache() {
    let options = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    let database = Database::create_with(options).await;
    let service = Service::start_with(&database, &[]).await;
    for _ in 0..2 {
        service.read(CRAB).await.problem(404, "not-found");
        let body = json!({"key": "key", "value": CRAB});
        assert_eq!(service.post("/write", &body).await.wrong_fields(), ["value"]);
    }
    service.write("key", "value").await;
    let many = service.post("/read", &json!({"keys": [CRAB, "key"]})).await;
    assert_eq!(many.json(200)["missing"], json!([CRAB]));
}

#[tokio::test]
async fn a_value_that_a_column_is_too_short_for_is_422() {
    let service = Service::start(&[]).await;
    let session = service.database.session().await;
    session.run("ALTER TABLE users ALTER name TYPE varchar(3)").await;
    let user = json!({"name": "Grace", "email": "grace@example.org"});
    service.post("/users/", &user).await.problem(422, "validation");
}

#[tokio::test]
async fn a_database_that_knows_no_characters_is_refused_with_the_cure() {
    let options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'";
    let database = Database::create_with(options).await;
    for command in ["serve", "migrate", "check"] {
        let launch = Launch::new(&[command]).env("DATABASE_URL", &database.url);
        let ended = launch.env("PORT", "0").run().await;
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        let said = ended.output + &ended.log;
        for part in ["SQL_ASCII", "ENCODING 'UTF8'"] {
            assert!(said.contains(part), "{command}: {said}");
        }
    }
}

/// In Turkish the small letter of `I` has no dot.
#[tokio::test]
async fn addresses_are_compared_the_same_whatever_the_locale() {
    let options = "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'";
    let database = Database::create_with(options).await;
    let service = Service::start_with(&database, &[]).await;
    let add = async |email: &str| {
        let user = json!({"name": "Ada", "email": email});
        service.post("/users/", &user).await
    };
    add("INFO@example.org").await.json(201);
    for same in ["info@example.org", "Info@EXAMPLE.ORG"] {
        add(same).await.problem(409, "conflict");
    }
    add("inf@example.org").await.json(201);
    // The same index holds for users that are added without the service.
    let session = database.session().await;
    let taken =
        "SELECT count(*) FROM users WHERE coalesce(email_key, lower(email::text COLLATE \"C\")) = 'info@example.org'";
    assert_eq!(session.number(taken).await, 1);
}

/// An earlier version compared addresses by the rules of the database.
#[tokio::test]
async fn existing_users_keep_their_rows_when_addresses_are_compared_in_another_way() {
    let database = Database::create_with("LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'").await;
    let launch = || Launch::new(&["migrate"]).env("DATABASE_URL", &database.url);
    assert_eq!(launch().run().await.code, Some(0));
    let session = database.session().await;
    session
        .run(
            "ALTER TABLE users DROP COLUMN email_key; \
             CREATE UNIQUE INDEX users_email_key ON users (lower(email)); \
             INSERT INTO users (name, email) VALUES ('a', 'INFO@example.org'), ('b', 'info@example.org'), \
             ('c', 'ZO\u{cb}@example.org'), ('d', 'plain@example.org')",
        )
        .await;
    let migrated = launch().run().await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    assert!(
        migrated.log.contains("\"users\":1") || migrated.log.contains("users=1"),
        "{migrated:?}"
    );
    assert_eq!(session.number("SELECT count(*) FROM users").await, 4);
    let keyed = "SELECT count(*) FROM users WHERE email_key = 'zo%C3%AB@example.org'";
    assert_eq!(session.number(keyed).await, 1);
    let service = Service::start_with(&database, &[]).await;
    for taken in ["Info@example.org", "PLAIN@example.org"] {
        let user = json!({"name": "Eve", "email": taken});
        service.post("/users/", &user).await.problem(409, "conflict");
    }
}
