//! With any settings of the database or the role, the service works as usual, or its start names the setting and the
//! cure.

use serde_json::json;

use crate::support::{Database, Launch, SOON, Service, resolve};

/// Checks each kind of request, with several writers of one key.
async fn behaves(service: &Service, given: &str) {
    let mut versions = Vec::new();
    for round in 0..3 {
        let writes = (0..16).map(|writer| {
            let body = json!({"key": "contended", "value": format!("{round} {writer}")});
            async move { service.post("/write", &body).await }
        });
        for written in futures_util::future::join_all(writes).await {
            assert_eq!(written.status, 200, "{given}: {}", written.text());
            versions.push(written.json(200)["version"].as_i64().unwrap());
        }
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 48, "{given}");
    let read = service.read("contended").await.json(200);
    assert_eq!(read["version"], versions[47], "{given}");
    let odd = "quote\' \\ \"{1,2}\" NULL \u{1f980}";
    service.write(odd, odd).await;
    assert_eq!(service.read(odd).await.json(200)["value"], odd, "{given}");
    let many = service.post("/read", &json!({"keys": [odd, "none"]})).await;
    assert_eq!(many.json(200)["missing"], json!(["none"]), "{given}");
    let path = format!("/read/{}", crate::support::encoded(odd));
    assert_eq!(service.delete(&path).await.status, 204, "{given}");
    service.read(odd).await.problem(404, "not-found");
    let user = json!({"name": "Ada \\", "email": "ada@example.org"});
    let added = service.post("/users/", &user).await;
    assert_eq!(added.status, 201, "{given}: {}", added.text());
    let location = resolve("/users/", &added.headers["location"]);
    assert_eq!(service.get(&location).await.json(200)["name"], "Ada \\");
    service.post("/users/", &user).await.problem(409, "conflict");
    assert_eq!(service.get("/users/").await.json(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn settings_that_should_make_no_difference_make_none() {
    // The settings of a group do not influence each other.
    for settings in [
        &[
            "default_transaction_deferrable = on",
            "default_transaction_isolation = 'read uncommitted'",
            "lock_timeout = '2s'",
            "statement_timeout = '30s'",
            "idle_in_transaction_session_timeout = '100ms'",
            "idle_session_timeout = '300ms'",
            "search_path = 'other', 'public'",
            "session_replication_role = replica",
        ][..],
        &[
            "standard_conforming_strings = off",
            "backslash_quote = off",
            "escape_string_warning = on",
            "array_nulls = off",
            "transform_null_equals = on",
            "quote_all_identifiers = on",
            "DateStyle = 'German, DMY'",
            "IntervalStyle = sql_standard",
            "TimeZone = 'Asia/Kathmandu'",
            "bytea_output = escape",
            "extra_float_digits = -15",
            "client_encoding = LATIN1",
            "lc_messages = 'C'",
            "check_function_bodies = off",
            "client_min_messages = error",
            "row_security = off",
        ],
        &[
            "plan_cache_mode = force_custom_plan",
            "enable_indexscan = off",
            "enable_bitmapscan = off",
            "enable_nestloop = off",
            "enable_hashjoin = off",
            "work_mem = '64kB'",
            "jit = on",
            "jit_above_cost = 0",
            "from_collapse_limit = 1",
            "default_statistics_target = 1",
            "log_statement = 'all'",
            "default_toast_compression = pglz",
            "synchronous_commit = local",
        ],
    ] {
        let database = Database::create().await;
        let session = database.session().await;
        session.run("CREATE SCHEMA other").await;
        for setting in settings {
            let set = format!("ALTER DATABASE {} SET {setting}", database.name);
            session.run(&set).await;
        }
        let service = Service::start_with(&database, &[]).await;
        behaves(&service, &format!("{settings:?}")).await;
        let ended = service.stop(SOON).await;
        assert_eq!(ended.code, Some(0), "{settings:?}");
    }
}

/// The cure that a command names works.
#[tokio::test]
async fn settings_that_would_stall_or_mislead_are_named_with_their_cure() {
    for (setting, name) in [
        (
            "default_transaction_isolation = 'repeatable read'",
            "default_transaction_isolation",
        ),
        (
            "default_transaction_isolation = serializable",
            "default_transaction_isolation",
        ),
        ("search_path = public, pg_catalog", "search_path"),
    ] {
        let database = Database::create().await;
        let session = database.session().await;
        let set = format!("ALTER DATABASE {} SET {setting}", database.name);
        session.run(&set).await;
        for command in ["serve", "migrate", "check"] {
            let launch = Launch::new(&[command]).env("DATABASE_URL", &database.url);
            let ended = launch.env("PORT", "0").run().await;
            assert_eq!(ended.code, Some(1), "{command} {setting}: {ended:?}");
            let said = ended.output + &ended.log;
            for part in [name, "set for the database", "ALTER ROLE"] {
                assert!(said.contains(part), "{command} {setting}: {said}");
            }
            if name == "default_transaction_isolation" && command == "migrate" {
                let cure = said.split("Run: ").nth(1).unwrap();
                session.run(cure.trim()).await;
                let launch = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url);
                assert_eq!(launch.run().await.code, Some(0));
                let service = Service::start_with(&database, &[]).await;
                behaves(&service, setting).await;
                let undo = "ALTER ROLE CURRENT_USER IN DATABASE";
                session.run(&format!("{undo} {} RESET ALL", database.name)).await;
            }
        }
    }
    let database = Database::create().await;
    let url = format!(
        "{}?options=-c%20default_transaction_isolation%3Dserializable",
        database.url
    );
    let launch = Launch::new(&["migrate"]).env("DATABASE_URL", &url);
    let ended = launch.run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.log.contains("options of DATABASE_URL"), "{ended:?}");
}

#[tokio::test]
async fn tables_whose_rows_are_hidden_or_rewritten_are_named_with_the_cure() {
    let database = Database::create().await;
    let launch = |command| {
        Launch::new(&[command])
            .env("DATABASE_URL", &database.url)
            .env("PORT", "0")
    };
    assert_eq!(launch("migrate").run().await.code, Some(0));
    let session = database.session().await;
    let rule = "CREATE RULE audit AS ON INSERT TO kv DO ALSO NOTIFY audit";
    session.run(rule).await;
    for command in ["serve", "check"] {
        let ended = launch(command).run().await;
        assert_eq!(ended.code, Some(1), "{command}: {ended:?}");
        let said = ended.output + &ended.log;
        assert!(said.contains("the rule audit") && said.contains("DROP RULE"), "{said}");
    }
    session.run("DROP RULE audit ON kv").await;
    let [host, port, _, password] = database.parts();
    let url = format!("postgresql://reader:{password}@{host}:{port}/{}", database.name);
    session
        .run(&format!(
            "CREATE ROLE reader LOGIN PASSWORD '{password}'; ALTER TABLE kv ENABLE ROW LEVEL SECURITY; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO reader; GRANT ALL ON SCHEMA public TO reader"
        ))
        .await;
    let ended = Launch::new(&["check"]).env("DATABASE_URL", &url).run().await;
    assert!(
        ended.output.contains("row-level security hides rows of the table kv"),
        "{ended:?}"
    );
}
