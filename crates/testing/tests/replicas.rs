//! Servers that follow another one and take its place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::time::Duration;

use cenote_local::{Error, PostgresServer};
use cenote_testing::{Replication, ask, eventually, printed, psql, runs};
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(10);

async fn primary() -> PostgresServer {
    PostgresServer::temporary().start().await.unwrap()
}

/// Waits until a server answers so.
async fn answers(server: &PostgresServer, query: &str, expected: &str) {
    let begun = Instant::now();
    while ask(server, query).await != expected {
        assert!(begun.elapsed() < SOON, "never {expected}: {query}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A row on the primary, in a table that all replicas have.
async fn write(primary: &PostgresServer, value: u32) {
    let insert = format!("insert into entry values ({value})");
    ask(primary, &format!("{insert} returning value")).await;
}

#[tokio::test]
async fn writes_on_the_primary_appear_on_every_replica() {
    let primary = primary().await;
    ask(&primary, "create table entry (value int)").await;
    write(&primary, 1).await;
    let (one, two) = tokio::join!(primary.replica().start(), primary.replica().start());
    let (one, two) = (one.unwrap(), two.unwrap());
    write(&primary, 2).await;
    for replica in [&one, &two] {
        answers(replica, "select sum(value) from entry", "3").await;
    }
    // The databases of a server are its replicas' too.
    primary.create_database("more").await.unwrap();
    answers(&one, "select count(*) from pg_database where datname = 'more'", "1").await;
}

#[tokio::test]
async fn a_replica_refuses_writes_as_read_only() {
    let primary = primary().await;
    let replica = primary.replica().start().await.unwrap();
    assert_eq!(ask(&replica, "select pg_is_in_recovery()").await, "t");
    let sql = "\\set VERBOSITY verbose\ncreate table entry (value int)";
    let script = format!("printf '%s\\n' \"$1\" | {}", replica.psql_line());
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-c", &script, "sh", sql]).output().await.unwrap();
    assert!(printed(&output).contains("25006"), "{}", printed(&output));
}

#[tokio::test]
async fn a_promoted_replica_takes_the_place_of_a_killed_primary() {
    let primary = primary().await;
    ask(&primary, "create table entry (value int)").await;
    let replica = primary.replica().synchronous().start().await.unwrap();
    write(&primary, 1).await;
    primary.kill().await.unwrap();
    replica.promote().await.unwrap();
    write(&replica, 2).await; // and waits for nobody
    assert_eq!(ask(&replica, "select sum(value) from entry").await, "3");
    assert_eq!(ask(&replica, "select pg_is_in_recovery()").await, "f");
    // From now on it is a server like any other.
    replica.kill().await.unwrap();
    replica.restart().await.unwrap();
    write(&replica, 3).await;
    let next = replica.replica().start().await.unwrap();
    answers(&next, "select sum(value) from entry", "6").await;
}

#[tokio::test]
async fn a_server_that_follows_nobody_cannot_be_promoted() {
    let error = primary().await.promote().await.unwrap_err();
    assert!(matches!(error, Error::Command { .. }), "{error:?}");
    assert!(error.to_string().contains("recovery"), "{error}");
}

#[tokio::test]
async fn a_commit_waits_for_every_synchronous_replica() {
    let primary = primary().await;
    ask(&primary, "create table entry (value int)").await;
    let one = primary.replica().synchronous().start().await.unwrap();
    let two = primary.replica().synchronous().start().await.unwrap();
    let other = primary.replica().start().await.unwrap();
    other.freeze().await.unwrap(); // is waited for by nobody
    write(&primary, 1).await;
    for (value, absent) in [(2, &one), (3, &two)] {
        absent.freeze().await.unwrap();
        let insert = format!("insert into entry values ({value})");
        let mut commit = psql(&primary, &insert).spawn().unwrap();
        let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        answers(&primary, waiting, "1").await;
        assert!(commit.try_wait().unwrap().is_none());
        absent.thaw().await.unwrap();
        let ended = timeout(SOON, commit.wait()).await.unwrap();
        assert!(ended.unwrap().success());
    }
    for replica in [&one, &two] {
        answers(replica, "select sum(value) from entry", "6").await;
    }
}

#[tokio::test]
async fn a_replica_that_was_away_catches_up_with_a_primary_that_was() {
    let primary = primary().await;
    ask(&primary, "create table entry (value int)").await;
    let replica = primary.replica().start().await.unwrap();
    replica.kill().await.unwrap();
    write(&primary, 1).await;
    replica.restart().await.unwrap();
    answers(&replica, "select sum(value) from entry", "1").await;
    primary.kill().await.unwrap();
    assert_eq!(ask(&replica, "select sum(value) from entry").await, "1");
    primary.restart().await.unwrap();
    write(&primary, 2).await;
    answers(&replica, "select sum(value) from entry", "3").await;
}

#[tokio::test]
async fn a_replica_has_the_settings_of_its_primary_and_its_own() {
    let primary = PostgresServer::temporary()
        .setting("max_connections", "137") // fewer, and a replica would not start
        .setting("work_mem", "1MB")
        .start()
        .await
        .unwrap();
    let replica = primary.replica().setting("work_mem", "2MB");
    let replica = replica.start().await.unwrap();
    assert_eq!(ask(&replica, "show max_connections").await, "137");
    assert_eq!(ask(&replica, "show work_mem").await, "2MB");
}

#[tokio::test]
async fn a_primary_that_cannot_be_copied_says_why() {
    let primary = PostgresServer::temporary().setting("max_wal_senders", "0");
    let primary = primary.start().await.unwrap();
    let error = primary.replica().start().await.unwrap_err();
    assert!(error.to_string().contains("max_wal_senders"), "{error}");
    primary.kill().await.unwrap();
    let error = primary.replica().start().await.unwrap_err();
    assert!(matches!(error, Error::Command { .. }), "{error:?}");
}

#[tokio::test]
async fn replica_and_primary_go_with_their_handles_in_either_order() {
    for replica_first in [true, false] {
        let primary = primary().await;
        let replica = primary.replica().start().await.unwrap();
        let [(one, one_dir), (two, two_dir)] = [&primary, &replica].map(|server| {
            let dir = server.data_dir().parent().unwrap().to_owned();
            (server.pid().unwrap(), dir)
        });
        if replica_first {
            drop(replica);
            eventually("the replica ends", SOON, || !runs(two)).await;
            drop(primary);
        } else {
            drop(primary);
            eventually("the primary ends", SOON, || !runs(one)).await;
            assert_eq!(ask(&replica, "select 1").await, "1");
            drop(replica);
        }
        eventually("both are gone", SOON, || {
            !runs(one) && !runs(two) && !one_dir.exists() && !two_dir.exists()
        })
        .await;
    }
}
