//! The tables: which role may create them, which existing tables are adopted, in which schema they are, and which locks
//! are waited for.

use serde_json::json;

use crate::support::{Database, Launch, SOON, Service, Session, eventually};

/// The table in tutorials of FastAPI, SQLAlchemy and asyncpg.
const TUTORIAL: &str = "CREATE TABLE users (id SERIAL PRIMARY KEY, name VARCHAR(100), email VARCHAR(255) UNIQUE); \
     INSERT INTO users (name, email) VALUES ('Ada', 'ada@example.org'), ('Grace', 'grace@example.org')";

fn launch(command: &str, database: &Database) -> Launch {
    Launch::new(&[command]).env("DATABASE_URL", &database.url)
}

async fn migrate(database: &Database) {
    let ended = launch("migrate", database).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// The same database with a role that may only read and write rows.
async fn as_clerk(database: &Database, session: &Session, schema: &str) -> Database {
    let role = format!("clerk_{}", database.name);
    session
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ))
        .await;
    let [_, _, user, password] = database.parts();
    let url = database
        .url
        .replace(&format!("{user}:{password}@"), &format!("{role}:p@"));
    Database {
        name: database.name.clone(),
        url,
    }
}

/// Writes and reads a key and a user.
async fn works(service: &Service) {
    service.write("key", "value").await;
    assert_eq!(service.read("key").await.json(200)["value"], "value");
    let body = json!({"name": "New", "email": "new@example.org"});
    let added = service.post("/users/", &body).await.json(201);
    let path = format!("/users/{}", added["id"]);
    assert_eq!(service.get(&path).await.json(200)["name"], "New");
}

#[tokio::test]
async fn a_role_that_may_only_read_and_write_rows_serves_a_schema_that_is_up_to_date() {
    let database = Database::create_durable().await;
    let session = database.session().await;
    // Before PostgreSQL 15 every role may create tables there.
    session.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    for feed in ["off", "notify"] {
        let feed = [("CACHE_FEED", feed)];
        let ended = launch("migrate", &database).envs(&feed).run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let clerk = as_clerk(&database, &session, "public").await;
    works(&Service::start_with(&clerk, &[("CACHE_FEED", "notify")]).await).await;
    let ended = launch("check", &clerk).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn tables_that_are_missing_and_may_not_be_created_end_the_start_with_what_to_do() {
    let database = Database::create().await;
    let session = database.session().await;
    session.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let clerk = as_clerk(&database, &session, "public").await;
    for command in ["serve", "migrate"] {
        let ended = launch(command, &clerk).env("PORT", "0").run().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for words in ["table kv", "permission denied", "cenote migrate"] {
            assert!(ended.log.contains(words), "{words:?}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn migrate_check_ends_the_start_and_names_what_is_missing_and_migrate_off_does_not_look() {
    let database = Database::create().await;
    let check = launch("serve", &database).env("PORT", "0").env("MIGRATE", "check");
    let ended = check.run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.reason();
    for words in ["lacks table kv, table users, table cache_epoch", "cenote migrate"] {
        assert!(last.contains(words), "{words:?}: {ended:?}");
    }
    let service = Service::start_with(&database, &[("MIGRATE", "off")]).await;
    service.read("key").await.problem(503, "schema-not-ready");
    migrate(&database).await;
    works(&Service::start_with(&database, &[("MIGRATE", "check")]).await).await;
}

#[tokio::test]
async fn a_users_table_of_another_program_is_adopted_with_its_rows_numbers_and_sequence() {
    let database = Database::create().await;
    let session = database.session().await;
    session.run(TUTORIAL).await;
    session
        .run("INSERT INTO users VALUES (7, 'Seven', 'seven@example.org')")
        .await;
    let service = Service::start_with(&database, &[]).await;
    works(&service).await;
    let users = service.get("/users/").await.json(200);
    let ids: Vec<_> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["id"].as_i64())
        .collect();
    assert_eq!(ids, [Some(1), Some(2), Some(7), Some(8)]);
    assert_eq!(users[0]["email"], "ada@example.org");
    for email in ["ada@example.org", "ADA@example.org"] {
        let body = json!({"name": "Another", "email": email});
        service.post("/users/", &body).await.problem(409, "conflict");
    }
    // The other program can still use the table.
    session
        .run("INSERT INTO users (name, email) VALUES ('Later', 'later@example.org')")
        .await;
    assert_eq!(service.get("/users/?after=8").await.json(200)[0]["name"], "Later");
    let ended = launch("migrate", &database).run().await;
    assert_eq!(ended.output.trim(), "the schema is up to date");
}

#[tokio::test]
async fn a_key_value_table_of_another_program_is_adopted_with_its_rows() {
    let database = Database::create().await;
    let session = database.session().await;
    session
        .run(
            "CREATE TABLE kv (key VARCHAR(255) PRIMARY KEY, value VARCHAR NOT NULL); \
             INSERT INTO kv VALUES ('old', 'kept')",
        )
        .await;
    let service = Service::start_with(&database, &[]).await;
    let old = service.read("old").await.json(200);
    assert_eq!((&old["value"], &old["version"]), (&json!("kept"), &json!(1)));
    assert_eq!(service.write("old", "new").await, 2);
    assert_eq!(service.delete("/read/old").await.status, 204);
    works(&service).await;
}

#[tokio::test]
async fn a_table_that_cannot_be_used_is_refused_with_the_column_and_left_as_it_was() {
    for (sql, words) in [
        (
            "CREATE TABLE users (id uuid PRIMARY KEY, name text, email text)",
            "column users.id is of type uuid",
        ),
        (
            "CREATE TABLE users (id serial PRIMARY KEY, name text)",
            "column users.email is missing",
        ),
        (
            "CREATE TABLE users (id serial PRIMARY KEY, name text, email json)",
            "column users.email is of type json",
        ),
        (
            "CREATE TABLE users (id serial PRIMARY KEY, name text, email text, hash text NOT NULL)",
            "column users.hash is NOT NULL and has no default",
        ),
        (
            "CREATE TABLE users (id serial PRIMARY KEY, name text, email text); \
             INSERT INTO users (name) VALUES ('nobody')",
            "column \\\"email\\\" of relation \\\"users\\\" contains null values",
        ),
        (
            "CREATE VIEW users AS SELECT 1 AS id, 'n' AS name, 'e' AS email",
            "users exists, but is not a table",
        ),
        (
            "CREATE TABLE kv (key int PRIMARY KEY, value text)",
            "column kv.key is of type integer",
        ),
        (
            "CREATE TABLE kv (key text PRIMARY KEY, value jsonb)",
            "column kv.value is of type jsonb",
        ),
    ] {
        let database = Database::create().await;
        let session = database.session().await;
        session.run(sql).await;
        for command in ["serve", "migrate"] {
            let ended = launch(command, &database).env("PORT", "0").run().await;
            assert_eq!(ended.code, Some(1), "{sql}: {ended:?}");
            let last = ended.reason();
            let words = words.replace('\\', "");
            assert!(last.contains(&words), "{words:?} for {sql}: {ended:?}");
            // No table was added.
            let others = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                          WHERE nspname = 'public' AND relname IN ('kv', 'users', 'cache_epoch')";
            assert_eq!(session.number(others).await, 1, "{sql}");
        }
    }
}

#[tokio::test]
async fn in_its_own_schema_the_service_leaves_the_applications_tables_alone() {
    let database = Database::create_durable().await;
    let session = database.session().await;
    let theirs = "CREATE TABLE refinery_schema_history (version int4 PRIMARY KEY, name varchar, applied_on varchar, \
                  checksum varchar); INSERT INTO refinery_schema_history VALUES (1, 'theirs', 'now', '7'); \
                  CREATE TABLE users (id uuid, data json); CREATE TABLE kv (other int)";
    session.run(theirs).await;
    // Independent of the search path.
    session
        .run(&format!(
            "ALTER DATABASE {} SET search_path = nowhere, public",
            database.name
        ))
        .await;
    let settings = [("DB_SCHEMA", "Own-Tables"), ("CACHE_FEED", "notify")];
    let service = Service::start_with(&database, &settings).await;
    works(&service).await;
    let count = "SELECT (SELECT count(*) FROM \"Own-Tables\".users) * 10 + (SELECT count(*) FROM \"Own-Tables\".kv)";
    assert_eq!(session.number(count).await, 11);
    let theirs = "SELECT (SELECT count(*) FROM public.users) + (SELECT count(*) FROM public.kv) \
                  + (SELECT count(*) FROM public.refinery_schema_history)";
    assert_eq!(session.number(theirs).await, 1);
    // The change feed works in that schema too.
    service.read("key").await.json(200);
    session.run("UPDATE \"Own-Tables\".kv SET value = 'changed'").await;
    eventually("the change is seen", async || {
        (service.read("key").await.json(200)["value"] == "changed").then_some(())
    })
    .await;
    let check = launch("check", &database).envs(&settings).run().await;
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[tokio::test]
async fn a_schema_name_that_cannot_be_one_is_refused() {
    for name in ["a.b", "a\"b", "pg_mine", "information_schema"] {
        let ended = Launch::new(&["config"]).env("DB_SCHEMA", name).run().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.log.contains("DB_SCHEMA"), "{ended:?}");
    }
}

/// The advisory lock under which the schema is changed.
const LOCK: &str = "BEGIN; SET LOCAL application_name = 'deploy tool'; \
                    SELECT pg_advisory_xact_lock(x'63656e6f7465'::bigint)";

#[tokio::test]
async fn a_lock_that_another_session_holds_is_named_in_the_log_and_in_health_and_waited_for() {
    for (sql, words) in [
        (LOCK, "the schema is being changed by another session"),
        (
            "BEGIN; SET LOCAL application_name = 'deploy tool'; LOCK TABLE users",
            "tables are locked",
        ),
    ] {
        let database = Database::create().await;
        let session = database.session().await;
        session.run(TUTORIAL).await;
        session.run(sql).await;
        let service = Service::launch_with(&database, &[]).await;
        let waiting = service.logged(&format!("waiting: {words}")).await;
        let said = waiting["message"].as_str().unwrap();
        assert!(said.contains("process ") && said.contains("deploy tool"), "{said}");
        let health = service.get("/health").await;
        assert_eq!(health.status, 503);
        assert!(health.text().contains("deploy tool"), "{}", health.text());
        let command = launch("migrate", &database).env("DB_POOL_TIMEOUT", "1");
        let ended = command.env("DB_CONNECT_TIMEOUT", "1").run().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.log.contains("deploy tool"), "{ended:?}");
        session.run("COMMIT").await;
        service.is_ready().await;
        assert!(!service.get("/health").await.text().contains("deploy tool"));
        works(&service).await;
    }
}

#[tokio::test]
async fn a_migration_that_is_killed_leaves_nothing_half_done_and_no_lock_behind() {
    let database = Database::create().await;
    let session = database.session().await;
    session.run(TUTORIAL).await;
    // The migration creates kv and then waits for this lock.
    session.run("BEGIN; LOCK TABLE users").await;
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    let migrating = launch("migrate", &database).spawn();
    eventually("the migration waits", async || {
        (session.number(blocked).await > 0).then_some(())
    })
    .await;
    migrating.signal("KILL");
    migrating.ended(SOON).await;
    session.run("COMMIT").await;
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('kv', 'cache_epoch')";
    assert_eq!(session.number(left).await, 0);
    let again = launch("migrate", &database).run().await;
    assert_eq!(again.code, Some(0), "{again:?}");
    works(&Service::start_with(&database, &[("MIGRATE", "check")]).await).await;
}

#[tokio::test]
async fn columns_that_the_row_of_the_epoch_lacks_are_added_and_no_redis_is_trusted() {
    let database = Database::create().await;
    let session = database.session().await;
    session
        .run(
            "CREATE TABLE cache_epoch (singleton boolean PRIMARY KEY DEFAULT true, epoch bigint NOT NULL); \
             INSERT INTO cache_epoch (epoch) VALUES (7)",
        )
        .await;
    let migrated = launch("migrate", &database).run().await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let row = "SELECT count(*) FROM cache_epoch WHERE epoch = 7 AND is_decided AND keyspace IS NULL";
    assert_eq!(session.number(row).await, 1);
    works(&Service::start_with(&database, &[]).await).await;
}
