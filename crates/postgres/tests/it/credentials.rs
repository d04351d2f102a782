//! Passwords that change while the pool runs.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::{Watcher, connecting::first, database, until};
use cenote_postgres::{Config, Password, Pool};

/// A new role, and a configuration that connects as it.
async fn config_of(role: &str, password: &str) -> (Watcher, Config) {
    let database = database().await;
    let watcher = database.watcher().await;
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'");
    watcher.run(&sql).await;
    let mut config = database.config(4);
    config.server.user(role);
    (watcher, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_costs_no_caller_an_error() {
    let (watcher, mut config) = config_of("rotating", "one").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "one\n").unwrap();
    config.password = Some(Password::from_file(&file));
    config.pool.max_lifetime = Some(Duration::from_millis(100));
    let pool = Pool::new(config).unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (pool, over, done) = (pool.clone(), over.clone(), done.clone());
            tokio::spawn(async move {
                while !over.load(Relaxed) {
                    let connection = pool.get().await.unwrap();
                    connection.query_one("SELECT 1", &[]).await.unwrap();
                    done.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    // A pool that has never worked takes a refused password for permanent at once.
    until("the pool works", async || done.load(Relaxed) > 0).await;
    for password in ["two", "three"] {
        // First the server, then the file: connects fail in between.
        let failures = pool.stats().pool.connect_failures;
        watcher.run(&format!("ALTER ROLE rotating PASSWORD '{password}'")).await;
        until("a connect fails", async || {
            pool.stats().pool.connect_failures > failures
        })
        .await;
        fs::write(&file, password).unwrap();
        let connects = pool.stats().pool.connects;
        until("the new password is used", async || {
            pool.stats().pool.connects >= connects + 8
        })
        .await;
    }
    over.store(true, Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(done.load(Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_function_is_called_for_every_connection_and_its_failure_is_reported() {
    let (_watcher, mut config) = config_of("asking", "secret").await;
    let asked = Arc::new(AtomicU64::new(0));
    let is_sealed = Arc::new(AtomicBool::new(true));
    let (counter, vault) = (asked.clone(), is_sealed.clone());
    config.password = Some(Password::from_fn(move || {
        counter.fetch_add(1, Relaxed);
        let sealed = vault.load(Relaxed);
        async move {
            match sealed {
                true => Err(std::io::Error::other("the vault is sealed")),
                false => Ok("secret".to_owned()),
            }
        }
    }));
    assert!(!format!("{config:?}").contains("secret"));
    config.pool.max_size = 1;
    let pool = Pool::new(config).unwrap();
    let error = first(&pool).await.unwrap_err();
    assert_eq!(error, "cannot read the password: the vault is sealed");
    is_sealed.store(false, Relaxed);
    for _ in 0..3 {
        let before = asked.load(Relaxed);
        pool.get().await.unwrap().discard();
        drop(pool.get().await.unwrap());
        assert!(asked.load(Relaxed) > before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_empty_password_file_is_reported_and_a_new_one_is_read() {
    let (_watcher, mut config) = config_of("waiting", "secret").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    config.password = Some(Password::from_file(&file));
    let error = first(&Pool::new(config.clone()).unwrap()).await.unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    fs::write(&file, "\n").unwrap();
    let pool = Pool::new(config).unwrap();
    let error = first(&pool).await.unwrap_err();
    assert_eq!(error, "cannot read the password: the password file is empty");
    fs::write(&file, "secret\r\n").unwrap();
    pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn after_a_rotation_every_session_is_replaced_on_request_and_no_caller_gets_an_error() {
    let (watcher, mut config) = config_of("replaced", "one").await;
    let token = Arc::new(std::sync::Mutex::new("one".to_owned()));
    config.password = Some(Password::from_fn({
        let token = token.clone();
        move || {
            let now = token.lock().unwrap().clone();
            async move { Ok(now) }
        }
    }));
    let pool = Pool::new(config).unwrap();
    let held = pool.get().await.unwrap();
    let before = [held.process_id(), pool.get().await.unwrap().process_id()];

    watcher.run("ALTER ROLE replaced PASSWORD 'two'").await;
    "two".clone_into(&mut token.lock().unwrap());
    pool.replace_all();
    held.query("SELECT 1", &[]).await.unwrap();
    drop(held);
    for _ in 0..5 {
        let connection = pool.get().await.unwrap();
        assert!(!before.contains(&connection.process_id()));
    }
    for process_id in before {
        watcher.sees_gone(process_id).await;
    }
    assert_eq!(pool.stats().pool.connect_failures, 0);
}
