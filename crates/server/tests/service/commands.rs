//! `check`, `migrate`, `openapi`, and `serve` without a database.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{Database, Ended, Launch, SOON, Service, eventually};

fn launch(command: &str, database: &Database) -> Launch {
    Launch::new(&[command]).env("DATABASE_URL", &database.url)
}

/// Checks the form of the output of `cenote check`, and returns how many checks passed and failed.
fn tally(ended: &Ended) -> (usize, usize) {
    let lines: Vec<_> = ended.output.lines().collect();
    let (total, checks) = lines.split_last().unwrap();
    let count = |mark: &str| checks.iter().filter(|line| line.starts_with(mark)).count();
    let (passed, failed) = (count("PASS  "), count("FAIL  "));
    assert_eq!(passed + failed, checks.len(), "{ended:?}");
    let all = passed + failed;
    assert_eq!(*total, format!("Total: {all} | Passed: {passed} | Failed: {failed}"));
    (passed, failed)
}

#[tokio::test]
async fn check_passes_on_a_database_that_works_and_leaves_nothing_behind() {
    let database = Database::create_durable().await;
    assert_eq!(launch("migrate", &database).run().await.code, Some(0));
    for _ in 0..2 {
        let ended = launch("check", &database).run().await;
        let (passed, failed) = tally(&ended);
        assert!(passed >= 5 && failed == 0, "{ended:?}");
        assert_eq!(ended.code, Some(0));
    }
    let session = database.session().await;
    assert_eq!(session.number("SELECT count(*) FROM kv").await, 0);
    assert_eq!(session.number("SELECT count(*) FROM users").await, 0);
}

#[tokio::test]
async fn check_fails_before_the_schema_is_there_and_says_what_to_do() {
    let database = Database::create().await;
    let ended = launch("check", &database).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let (passed, failed) = tally(&ended);
    assert!(passed > 0 && failed > 0, "{ended:?}");
    assert!(ended.output.contains("cenote migrate"), "{ended:?}");
}

#[tokio::test]
async fn check_fails_when_no_server_answers() {
    let url = "postgresql://ada:correct-horse@127.0.0.1:1/data";
    let launch = Launch::new(&["check"]).env("DATABASE_URL", url);
    let ended = launch.env("DB_POOL_TIMEOUT", "1").run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(tally(&ended), (0, 1));
    assert!(ended.output.starts_with("FAIL  connect: "), "{ended:?}");
    assert!(ended.output.contains("onnection refused"), "{ended:?}");
    assert!(!(ended.output + &ended.log).contains("correct-horse"));
}

#[tokio::test]
async fn check_fails_when_the_server_has_too_few_connections() {
    let database = Database::create_durable().await;
    assert_eq!(launch("migrate", &database).run().await.code, Some(0));
    let ended = launch("check", &database).env("INSTANCES", "100").run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(tally(&ended).1, 1);
    assert!(ended.output.contains("FAIL  connections: "), "{ended:?}");
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = Database::create().await;
    let first = launch("migrate", &database).run().await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.output.starts_with("added "), "{first:?}");
    let session = database.session().await;
    session
        .run("INSERT INTO kv (key, value) VALUES ('kept', 'value')")
        .await;
    let second = launch("migrate", &database).run().await;
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(second.output.trim(), "the schema is up to date");
    assert_eq!(session.number("SELECT count(*) FROM kv").await, 1);
}

#[tokio::test]
async fn of_five_migrations_at_once_one_changes_the_schema_and_all_succeed() {
    let database = Database::create().await;
    let migrating = (0..5).map(|_| launch("migrate", &database).spawn());
    let mut applied = 0;
    for process in migrating.collect::<Vec<_>>() {
        let ended = process.ended(SOON).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        applied += ended.output.matches("added ").count();
    }
    assert_eq!(applied, 1);
}

#[tokio::test]
async fn five_services_may_start_at_once_on_an_empty_database() {
    let database = Database::create().await;
    let mut services = Vec::new();
    for _ in 0..5 {
        services.push(Service::launch_with(&database, &[]).await);
    }
    for service in &services {
        service.is_ready().await;
    }
    let mut last = 0;
    for service in &services {
        let version = service.write("shared", "value").await;
        assert!(version > last);
        last = version;
    }
}

#[tokio::test]
async fn openapi_prints_what_is_served() {
    let ended = Launch::new(&["openapi"]).run().await;
    assert_eq!(ended.code, Some(0));
    let printed: Value = serde_json::from_str(&ended.output).unwrap();
    let service = Service::start(&[]).await;
    assert_eq!(service.get("/openapi.json").await.json(200), printed);
}

#[tokio::test]
async fn help_names_every_command_and_no_command_is_an_error() {
    let help = Launch::new(&["--help"]).run().await;
    assert_eq!(help.code, Some(0));
    for command in ["serve", "check", "migrate", "config", "openapi"] {
        assert!(help.output.contains(command), "{command}");
    }
    let nothing = Launch::new(&[]).run().await;
    assert_eq!(nothing.code, Some(2));
    let wrong = Launch::new(&["surf"]).run().await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.log.contains("surf"), "{wrong:?}");
}

/// The answer to a query by the command for a shell that the log shows.
fn psql(line: &str, query: &str) -> String {
    let command = format!("{line} -X -A -t -c \"$1\"");
    let output = Command::new("sh").args(["-c", &command, "sh", query]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn start_private(data: &Path) -> (Service, String, u16) {
    let nowhere = Database {
        name: String::new(),
        url: String::new(),
    };
    let launch = Launch::new(&["serve"])
        .env("DATA_DIR", data.to_str().unwrap())
        .env("PORT", "0");
    let service = Service::over(launch.spawn(), &nowhere).await;
    service.is_ready().await;
    let logged = service.logged("no database is set").await;
    let message = logged["message"].as_str().unwrap();
    let (_, line) = message.split_once("Look into it with: ").unwrap();
    let line = line.to_owned();
    let port = line.split(" -p ").nth(1).and_then(|rest| rest.split(' ').next());
    let port = port.unwrap().parse().unwrap();
    (service, line, port)
}

#[tokio::test]
async fn without_a_database_setting_a_private_one_is_started_and_its_data_are_kept() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (first, line, port) = start_private(&data).await;
    let version = first.write("kept", "over the restart").await;
    let sql = "SELECT value FROM kv WHERE key = 'kept'";
    assert_eq!(psql(&line, sql), "over the restart");
    let password = std::fs::read_to_string(data.join("password")).unwrap();
    assert!(!first.log().contains(password.trim()));
    let ended = first.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let connect = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    assert!(connect().await.is_err(), "the private server goes on");

    let (second, line, port) = start_private(&data).await;
    let read = second.read("kept").await.json(200);
    assert_eq!(read["value"], "over the restart");
    assert_eq!(read["version"], version);
    assert_eq!(psql(&line, sql), "over the restart");
    // Killed, the service stops nothing by itself, and yet its server ends.
    drop(second);
    let connect = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    eventually("the private server ends with the service", async || {
        connect().await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_private_database_that_was_killed_is_started_again_with_all_that_was_acknowledged() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (service, ..) = start_private(&data).await;
    let mut acknowledged = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            acknowledged = service.write("counted", "before the kill").await;
        }
        let killed = postmaster(&data).unwrap();
        kill(killed);
        // A write before that may use a session that has not noticed the end of its server.
        eventually("another server runs", async || {
            postmaster(&data).filter(|pid| *pid != killed)
        })
        .await;
        // Until a write succeeds, each is a clear error.
        let version = eventually("a write succeeds again", async || {
            let body = json!({"key": "counted", "value": "after it"});
            let answer = service.post("/write", &body).await;
            match answer.status {
                200 => answer.json(200)["version"].as_i64(),
                500..=599 => None,
                status => panic!("{status}: {}", answer.text()),
            }
        })
        .await;
        assert!(version > acknowledged, "{version} after {acknowledged}");
    }
    service.logged("the private PostgreSQL runs again").await;
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!data.join("data/postmaster.pid").exists(), "it goes on");
}

/// The server's process id, if its file exists.
fn postmaster(data: &Path) -> Option<u32> {
    let file = std::fs::read_to_string(data.join("data/postmaster.pid")).ok()?;
    file.lines().next()?.parse().ok()
}

fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}
