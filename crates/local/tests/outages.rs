//! A server that crashes, hangs or loses its port, and what remains afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{fs, net::TcpListener, process::Command, time::Duration};

use cenote_local::PostgresServer;
use cenote_testing::{ask, eventually, psql, runs};

#[tokio::test]
async fn committed_rows_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = PostgresServer::persistent(dir.path().join("data"))
        .start()
        .await
        .unwrap();
    assert_eq!(ask(&server, "show fsync").await, "on");
    ask(&server, "create table rows as select generate_series(1, 1000) as n").await;
    for _ in 0..3 {
        ask(&server, "insert into rows values (0)").await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    }
    assert_eq!(ask(&server, "select count(*) from rows").await, "1003");
}

#[tokio::test]
async fn a_crash_leaves_no_process_and_cuts_connections() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let query = psql(&server, "select pg_sleep(60)").spawn().unwrap();
    let busy = "select pid from pg_stat_activity where query like '%pg_sleep(60)' and wait_event = 'PgSleep'";
    let mut backend = String::new();
    while backend.is_empty() {
        backend = ask(&server, busy).await;
    }
    let (postmaster, backend) = (server.pid().unwrap(), backend.parse().unwrap());
    server.kill().await.unwrap();
    assert!(!runs(postmaster) && !runs(backend));
    assert_eq!(server.pid(), None);
    let output = tokio::time::timeout(Duration::from_secs(20), query.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(!output.status.success());
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
}

#[tokio::test]
async fn a_frozen_server_does_not_answer_until_it_is_thawed() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let mut query = psql(&server, "select pg_sleep(2), 'done'").spawn().unwrap();
    let busy = "select count(*) from pg_stat_activity where query like '%pg_sleep(2)%' and wait_event = 'PgSleep'";
    while ask(&server, busy).await != "1" {}
    server.freeze().await.unwrap();
    let frozen = tokio::time::timeout(Duration::from_secs(3), query.wait()).await;
    assert!(frozen.is_err(), "the query ended on a frozen server");
    server.thaw().await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(20), query.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("done"),
        "{}",
        cenote_testing::printed(&output)
    );
}

#[tokio::test]
async fn a_frozen_server_can_be_killed_and_restarted() {
    let server = PostgresServer::temporary().start().await.unwrap();
    server.freeze().await.unwrap();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    server.freeze().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
}

#[tokio::test]
async fn a_server_somebody_else_killed_is_noticed_and_restarts() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let pid = server.pid().unwrap();
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -9 {pid}")])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually("its end is noticed", Duration::from_secs(20), || server.pid().is_none()).await;
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
}

#[tokio::test]
async fn a_restart_waits_for_its_port() {
    let server = PostgresServer::temporary().start().await.unwrap();
    server.stop().await.unwrap();
    let thief = TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    let free_later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(thief);
    };
    let (restarted, ()) = tokio::join!(server.restart(), free_later);
    restarted.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
}

#[tokio::test]
async fn dropping_a_killed_server_leaves_no_shared_memory() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let pid_file = fs::read_to_string(server.data_dir().join("postmaster.pid")).unwrap();
    let segment = pid_file
        .lines()
        .nth(6)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    let listed = || {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        table
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some(segment.as_str()))
    };
    let dir = server.data_dir().to_owned();
    server.kill().await.unwrap();
    drop(server);
    eventually("its directory is removed", Duration::from_secs(10), || !dir.exists()).await;
    assert!(!listed());
}
