//! A temporary server starts, is private, and is gone when its handle is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{os::unix::fs::PermissionsExt, time::Duration};

use cenote_local::{Error, PostgresServer};
use cenote_testing::{ask, eventually, psql, runs};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_temporary_server_answers_psql_over_tcp_and_over_its_socket() {
    let server = PostgresServer::temporary()
        .setting("max_connections", "23")
        .start()
        .await
        .unwrap();
    assert_eq!(ask(&server, "show max_connections").await, "23");
    assert_eq!(ask(&server, "show synchronous_commit").await, "on");
    assert_eq!(ask(&server, "show fsync").await, "off");
    assert_eq!(
        ask(&server, "select current_user || '/' || current_database()").await,
        "cenote/cenote"
    );
    assert_eq!(ask(&server, "select lower('ÀÉ')").await, "àé");
    // The parameter overrules the host before it.
    let over_socket = format!("{}?host={}", server.url(), server.socket_dir().display());
    let query = "select inet_server_addr() is null";
    let output = tokio::process::Command::new("psql")
        .args([&over_socket, "-wAtc", query])
        .output();
    let output = output.await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "t",
        "{}",
        cenote_testing::printed(&output)
    );
}

#[tokio::test]
async fn two_servers_run_side_by_side() {
    let (one, two) = tokio::join!(PostgresServer::temporary().start(), PostgresServer::temporary().start());
    let (one, two) = (one.unwrap(), two.unwrap());
    ask(&one, "create table only_here ()").await;
    assert_ne!(one.port(), two.port());
    assert_eq!(ask(&two, "select to_regclass('only_here') is null").await, "t");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let url = format!("postgresql://cenote:wrong@127.0.0.1:{}/cenote", server.port());
    let output = tokio::process::Command::new("psql")
        .args([&url, "-wc", "select 1"])
        .output()
        .await
        .unwrap();
    assert!(cenote_testing::printed(&output).contains("authentication failed"));
}

#[tokio::test]
async fn nobody_else_can_read_the_data() {
    let server = PostgresServer::temporary().start().await.unwrap();
    for dir in [
        server.data_dir(),
        server.socket_dir(),
        server.data_dir().parent().unwrap(),
    ] {
        assert_eq!(
            std::fs::metadata(dir).unwrap().permissions().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
    }
}

#[tokio::test]
async fn a_created_database_is_reached_by_its_url_whatever_its_name() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let name = "a \"b/ü";
    server.create_database(name).await.unwrap();
    let url = server.url_for(name);
    let query = "select current_database()";
    let output = tokio::process::Command::new("psql")
        .args([&url, "-wAtc", query])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), name);
    let again = server.create_database(name).await.unwrap_err();
    assert!(again.to_string().contains("already exists"), "{again}");
}

#[tokio::test]
async fn a_dropped_server_and_its_directory_go_away() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let (pid, dir) = (server.pid().unwrap(), server.data_dir().parent().unwrap().to_owned());
    drop(server);
    eventually("the server ends", SOON, || !runs(pid)).await;
    eventually("its directory is removed", SOON, || !dir.exists()).await;
}

#[tokio::test]
async fn a_dropped_frozen_server_goes_away_too() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let (pid, dir) = (server.pid().unwrap(), server.data_dir().parent().unwrap().to_owned());
    server.freeze().await.unwrap();
    drop(server);
    eventually("the server ends", SOON, || !runs(pid)).await;
    eventually("its directory is removed", SOON, || !dir.exists()).await;
}

#[tokio::test]
async fn an_abandoned_start_leaves_nothing_running() {
    for millis in [0, 20, 60, 120, 200] {
        let start = PostgresServer::temporary().setting("cluster_name", "abandoned").start();
        // Whether it was abandoned early, late or not at all: the handle is dropped here either way.
        let _ = tokio::time::timeout(Duration::from_millis(millis), start).await;
    }
    if !std::path::Path::new("/proc/self").exists() {
        return;
    }
    let any = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            std::fs::read_to_string(entry.path().join("cmdline"))
                .is_ok_and(|line| line.contains("cluster_name=abandoned"))
        })
    };
    eventually("no abandoned server is left", SOON, || !any()).await;
}

#[tokio::test]
async fn a_stopped_server_starts_again_on_its_port_with_its_data() {
    let server = PostgresServer::temporary().start().await.unwrap();
    ask(&server, "create table kept as select 42 as answer").await;
    let port = server.port();
    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
    assert!(!psql(&server, "select 1").output().await.unwrap().status.success());
    assert!(matches!(server.kill().await, Err(Error::NotRunning)));
    server.stop().await.unwrap(); // nothing happens
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(ask(&server, "select answer from kept").await, "42");
}

#[tokio::test]
async fn a_setting_the_server_rejects_is_told_in_its_own_words() {
    let error = PostgresServer::temporary()
        .setting("max_connections", "many")
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("max_connections"), "{error}");
}
