//! Passwords are rotated while the service runs: it goes on without a restart.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::json;

use crate::support::{Database, Launch, Service, Session, eventually, redis, shared_server};

/// A database with a role of its own, which has this password.
async fn with_role(password: &str) -> (Database, Session, String) {
    static ROLES: AtomicU32 = AtomicU32::new(0);
    let database = Database::create_on(shared_server().await).await;
    let role = format!("rotating_{}_{}", std::process::id(), ROLES.fetch_add(1, Relaxed));
    let session = database.session().await;
    session
        .run(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'"))
        .await;
    (database, session, role)
}

fn url(database: &Database, role: &str, password: &str) -> String {
    let [host, port, ..] = database.parts();
    format!("postgres://{role}:{password}@{host}:{port}/{}", database.name)
}

/// A ready service that writes.
async fn start(database: &Database, launch: Launch) -> Service {
    let launch = launch.env("PORT", "0").env("CACHE_MODE", "off");
    let service = Service::over(launch.spawn(), database).await;
    service.is_ready().await;
    service.write("key", "before").await;
    service
}

async fn rotate(session: &Session, role: &str, password: &str) {
    session.run(&format!("ALTER ROLE {role} PASSWORD '{password}'")).await;
}

/// Ends all its sessions, and waits until it writes again.
async fn goes_on(service: &Service, session: &Session) {
    session.terminate("true").await;
    eventually("the service writes over new connections", async || {
        let body = json!({"key": "key", "value": "after"});
        (service.post("/write", &body).await.status == 200).then_some(())
    })
    .await;
    assert!(!service.log().contains("hunter"));
}

#[tokio::test]
async fn a_password_in_a_file_is_read_again_for_new_connections() {
    let (database, session, role) = with_role("hunter1").await;
    let [host, port, ..] = database.parts();
    let alone = Launch::new(&["serve"])
        .envs(&[
            ("DB_HOST", host),
            ("DB_PORT", port),
            ("DB_USER", &role),
            ("DB_NAME", &database.name),
        ])
        .env("DB_PASS_FILE", "password")
        .file("password", "hunter1\n");
    let in_url = Launch::new(&["serve"])
        .env("DATABASE_URL_FILE", "password")
        .file("password", &url(&database, &role, "hunter1"));
    let services = [start(&database, alone).await, start(&database, in_url).await];
    for password in ["hunter2", "hunter3"] {
        rotate(&session, &role, password).await;
        services[0].write_file("password", &format!("{password}\n"));
        services[1].write_file("password", &url(&database, &role, password));
        for service in &services {
            goes_on(service, &session).await;
        }
    }
}

#[tokio::test]
async fn a_password_in_the_settings_is_taken_over_by_a_reload_and_no_other_part_of_the_database_is() {
    let (database, session, role) = with_role("hunter1").await;
    let [host, port, ..] = database.parts();
    let parts = |user: &str, password: &str| {
        format!(
            "DB_HOST={host}\nDB_PORT={port}\nDB_USER={user}\nDB_NAME={}\nDB_PASS={password}\n",
            database.name
        )
    };
    let in_url = |role: &str, password: &str| format!("DATABASE_URL={}\n", url(&database, role, password));
    for (name, settings) in [
        ("DB_PASS", &parts as &dyn Fn(&str, &str) -> String),
        ("DATABASE_URL", &in_url),
    ] {
        rotate(&session, &role, "hunter1").await;
        let launch = Launch::new(&["serve"]).file(".env", &settings(&role, "hunter1"));
        let service = start(&database, launch).await;
        rotate(&session, &role, "hunter2").await;
        service.write_file(".env", &settings(&role, "hunter2"));
        let reloaded = service.post("/admin/reload", &json!({})).await.json(200);
        assert_eq!(reloaded, json!({"applied": [name], "needs_restart": []}));
        goes_on(&service, &session).await;
        // The password of another user is not shown to this server.
        service.write_file(".env", &settings("somebody", "hunter3"));
        let reloaded = service.post("/admin/reload", &json!({})).await.json(200);
        assert_eq!(reloaded["applied"], json!([]));
        assert!(
            reloaded["needs_restart"].as_array().unwrap().contains(&json!(name)),
            "{reloaded}"
        );
        goes_on(&service, &session).await;
    }
}

/// Waits until the service has connected to Redis this many times.
async fn connected(service: &Service, times: usize) {
    eventually("the service uses Redis", async || {
        (service.times_logged("connected to Redis") >= times).then_some(())
    })
    .await;
    service.uses_its_cache().await;
}

#[tokio::test]
async fn the_password_of_redis_is_read_again_for_new_connections_or_taken_over_by_a_reload() {
    let redis = redis().await;
    let set = async |password: &str| {
        let user = ["ACL", "SETUSER", "cenote", "reset", "on", "~*", "&*", "+@all"];
        let password = format!(">{password}");
        redis.command(&[&user[..], &[&password]].concat()).await.unwrap();
    };
    let url = |password: &str| format!("redis://cenote:{password}@127.0.0.1:{}", redis.port());
    set("hunter1").await;
    let database = Database::create_on(shared_server().await).await;
    let launch = || {
        Launch::new(&["serve"])
            .env("DATABASE_URL", &database.url)
            .env("PORT", "0")
    };
    let in_file = launch().env("REDIS_URL_FILE", "redis").file("redis", &url("hunter1"));
    let in_file = Service::over(in_file.spawn(), &database).await;
    let in_settings = launch().file(".env", &format!("REDIS_URL={}\n", url("hunter1")));
    let in_settings = Service::over(in_settings.spawn(), &database).await;
    for (rotations, password) in [(0, "hunter2"), (1, "hunter3")] {
        for service in [&in_file, &in_settings] {
            service.is_ready().await;
            connected(service, 1 + rotations).await;
        }
        set(password).await;
        in_file.write_file("redis", &url(password));
        in_settings.write_file(".env", &format!("REDIS_URL={}\n", url(password)));
        let reloaded = in_settings.post("/admin/reload", &json!({})).await.json(200);
        assert_eq!(reloaded, json!({"applied": ["REDIS_URL"], "needs_restart": []}));
        // Redis itself has ended the sessions of the user, or does it now.
        redis
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
            .unwrap();
    }
    for service in [&in_file, &in_settings] {
        connected(service, 3).await;
        service.write("key", "value").await;
        assert!(!service.log().contains("hunter"));
    }
}
