//! The settings are read again while the service runs, by SIGHUP or by `POST /admin/reload`: all or nothing.

use serde_json::{Value, json};

use crate::support::{Database, Launch, Service, eventually, shared_server};

/// A ready service whose settings are in `.env`.
async fn with_file(text: &str) -> Service {
    let database = Database::create_on(shared_server().await).await;
    let launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .file(".env", text);
    let service = Service::over(launch.spawn(), &database).await;
    service.is_ready().await;
    service
}

async fn reload(service: &Service) -> Value {
    service.post("/admin/reload", &json!({})).await.json(200)
}

#[tokio::test]
async fn a_reload_applies_what_it_can_and_names_what_needs_a_restart() {
    let service = with_file("LOG=info\nDB_POOL_MAX_SIZE=4\nCACHE_TTL=300\n").await;
    let nothing = json!({"applied": [], "needs_restart": []});
    assert_eq!(reload(&service).await, nothing);
    // Another spelling of a value is no change.
    service.write_file(".env", "LOG=info\nDB_POOL_MAX=4\nCACHE_TTL=5m\n");
    assert_eq!(reload(&service).await, nothing);

    service.write_file(".env", "LOG=info,cenote=debug\nDB_POOL_MAX_SIZE=6\nCACHE_TTL=10\n");
    let expected = json!({"applied": ["DB_POOL_MAX_SIZE", "LOG"], "needs_restart": ["CACHE_TTL"]});
    assert_eq!(reload(&service).await, expected);
    let state = service.get("/admin/state").await.json(200);
    assert_eq!((&state["max"], &state["log"]), (&json!(6), &json!("info,cenote=debug")));

    // What needs a restart is still not in force, and named again.
    let expected = json!({"applied": [], "needs_restart": ["CACHE_TTL"]});
    assert_eq!(reload(&service).await, expected);
    service.write_file(".env", "LOG=info,cenote=debug\nDB_POOL_MAX_SIZE=6\n");
    assert_eq!(reload(&service).await, nothing);
}

#[tokio::test]
async fn a_hangup_without_a_terminal_reloads_and_the_log_tells_the_result() {
    let service = with_file("LOG=info\n").await;
    service.write_file(".env", "LOG=info,cenote=debug\nCACHE_TTL=10\n");
    service.signal("HUP");
    let reloaded = service.logged("settings reloaded").await;
    assert_eq!(
        (&reloaded["by"], &reloaded["applied"]),
        (&json!("SIGHUP"), &json!("LOG"))
    );
    let waiting = service
        .logged("these settings have new values that need a restart")
        .await;
    assert_eq!(waiting["settings"], "CACHE_TTL");
    let line = service.logged("administrative call").await;
    let expected = json!(["signal", "SIGHUP", "applied: LOG; needs a restart: CACHE_TTL", 0]);
    assert_eq!(
        json!([line["who"], line["what"], line["detail"], line["result"]]),
        expected
    );
    assert_eq!(service.get("/admin/state").await.json(200)["log"], "info,cenote=debug");
    assert!(!service.log().contains("draining"));
}

#[tokio::test]
async fn a_faulty_setting_changes_nothing_and_is_named() {
    let service = with_file("LOG=info\nDB_POOL_MAX_SIZE=4\n").await;
    service.write_file(
        ".env",
        "LOG=debug\nDB_POOL_MAX_SIZE=6\nDB_POOL_MIN_SIZE=7\nRATE_LIMIT_READ=often\nAUTH_PEPPER=hun\u{7}ter2\n",
    );
    let before = service.get("/admin/state").await.json(200);
    let refused = service.post("/admin/reload", &json!({})).await;
    let text = refused.text();
    assert!(!text.contains("ter2"), "{text}");
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(
        (refused.status, &problem["type"]),
        (422, &json!("urn:cenote:problem:validation"))
    );
    let errors = problem["errors"].as_array().unwrap();
    let mut names: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["AUTH_PEPPER", "DB_POOL_MIN_SIZE", "RATE_LIMIT_READ"], "{text}");
    let of_limit = errors.iter().find(|error| error["field"] == "RATE_LIMIT_READ").unwrap();
    let detail = of_limit["detail"].as_str().unwrap();
    assert!(detail.starts_with("RATE_LIMIT_READ from .env line 4: "), "{detail}");

    service.signal("HUP");
    eventually("the log names the settings", async || {
        (service.times_logged("the settings were not reloaded: ") == 6).then_some(())
    })
    .await;
    for (setting, line) in [("DB_POOL_MIN_SIZE", 3), ("RATE_LIMIT_READ", 4)] {
        let message = format!("the settings were not reloaded: {setting} from .env line {line}: ");
        let logged = service.logged_with(&message, |event| event["by"] == "SIGHUP").await;
        assert_eq!(logged["setting"], setting);
    }
    assert!(!service.log().contains("ter2"));
    assert_eq!(service.get("/admin/state").await.json(200), before);
    service.write_file(".env", "LOG=info\nDB_POOL_MAX_SIZE=6\n");
    assert_eq!(reload(&service).await["applied"], json!(["DB_POOL_MAX_SIZE"]));
}

#[tokio::test]
async fn a_reload_puts_back_what_an_administrator_changed() {
    let service = with_file("LOG=info\nDB_POOL_MAX_SIZE=4\n").await;
    service
        .post("/admin/resize", &json!({"max": 9, "min": 1}))
        .await
        .json(200);
    service
        .post("/admin/log", &json!({"filter": "warn,cenote=info"}))
        .await
        .json(200);
    let expected = json!(["DB_POOL_MIN_SIZE", "DB_POOL_MAX_SIZE", "LOG"]);
    assert_eq!(reload(&service).await["applied"], expected);
    let state = service.get("/admin/state").await.json(200);
    assert_eq!(
        (&state["min"], &state["max"], &state["log"]),
        (&json!(2), &json!(4), &json!("info"))
    );
}

#[tokio::test]
async fn reloads_at_one_time_follow_each_other_and_each_is_answered() {
    let service = with_file("DB_POOL_MAX_SIZE=4\n").await;
    service.write_file(".env", "DB_POOL_MAX_SIZE=6\n");
    let ask = async || service.ask("POST", "/admin/reload", &[], "").await.json(200);
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    let answers = [answers.0, answers.1, answers.2, answers.3];
    let applied = answers
        .iter()
        .filter(|it| it["applied"] == json!(["DB_POOL_MAX_SIZE"]))
        .count();
    assert_eq!(applied, 1, "{answers:?}");
    assert_eq!(service.get("/admin/state").await.json(200)["max"], 6);
}

#[tokio::test]
async fn the_audit_log_has_the_result_of_a_reload() {
    let audit = tempfile::tempdir().unwrap();
    let file = audit.path().join("audit.log");
    let set = format!("AUDIT_LOG={}\n", file.display());
    let service = with_file(&set).await;
    service.write_file(".env", &format!("{set}LOG=warn\nCACHE_TTL=10\n"));
    reload(&service).await;
    service.write_file(".env", &format!("{set}LOG=loud\n"));
    service.post("/admin/reload", &json!({})).await.wrong_fields();
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["result"].as_u64().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (200, "applied: LOG; needs a restart: CACHE_TTL"),
            (422, "nothing changed: LOG"),
        ]
    );
}
