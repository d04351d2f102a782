//! A server does not outlive its owner, however the owner ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{
    env,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_testing::{HELPER, RedisCluster, RedisServer, Replication, ask, eventually, helper, runs, start_helper};

const SOON: Duration = Duration::from_secs(10);

/// The owner: starts what its role says, prints `ready: pid directory` and waits for its end.
#[tokio::test]
#[ignore = "a helper process of the tests below"]
async fn owner() {
    let Ok(role) = env::var(HELPER) else { return };
    if role == "redis" {
        let server = RedisServer::temporary().start().await.unwrap();
        println!("ready: {} {}", server.pid().unwrap(), env::temp_dir().display());
        std::future::pending::<()>().await;
    }
    if role == "cluster" {
        let cluster = RedisCluster::temporary().start().await.unwrap();
        let [killed, frozen, ..] = cluster.nodes() else {
            panic!("a cluster has nodes")
        };
        killed.kill().await.unwrap();
        frozen.freeze().await.unwrap();
        let pids: Vec<_> = cluster
            .nodes()
            .iter()
            .filter_map(|node| node.pid().map(|pid| pid.to_string()))
            .collect();
        println!("ready: {}", pids.join(" "));
        std::future::pending::<()>().await;
    }
    let server = match role.as_str() {
        "temporary" | "frozen" | "replicated" => PostgresServer::temporary().start().await.unwrap(),
        dir => PostgresServer::persistent(dir).start().await.unwrap(),
    };
    if role == "frozen" {
        server.freeze().await.unwrap();
    }
    let replica = match role.as_str() {
        "replicated" => Some(server.replica().start().await.unwrap()),
        _ => None,
    };
    let server = replica.as_ref().unwrap_or(&server);
    println!(
        "ready: {} {} {}",
        server.pid().unwrap(),
        server.data_dir().parent().unwrap().display(),
        server.socket_dir().parent().unwrap().display()
    );
    // A sibling started later must not keep the supervisor's pipe open.
    let mut sibling = Command::new("sleep").arg("30").spawn().unwrap();
    std::future::pending::<()>().await;
    let _ = sibling.wait();
}

fn start_owner(role: &str) -> (Child, u32, PathBuf, PathBuf) {
    let (owner, words) = start_helper(helper(&env::current_exe().unwrap(), "owner", role));
    let (data, run) = (PathBuf::from(&words[1]), PathBuf::from(words.last().unwrap()));
    (owner, words[0].parse().unwrap(), data, run)
}

async fn is_gone_after_kill(role: &str) {
    let (mut owner, pid, dir, _) = start_owner(role);
    assert!(runs(pid) && dir.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the server ends", SOON, || !runs(pid)).await;
    eventually("its directory is removed", SOON, || !dir.exists()).await;
}

#[tokio::test]
async fn a_temporary_server_and_its_directory_are_gone_after_the_owner_was_killed() {
    is_gone_after_kill("temporary").await;
}

#[tokio::test]
async fn a_frozen_server_is_gone_after_the_owner_was_killed() {
    is_gone_after_kill("frozen").await;
}

#[tokio::test]
async fn a_replica_is_gone_after_the_owner_was_killed() {
    is_gone_after_kill("replicated").await;
}

#[tokio::test]
async fn a_redis_server_is_gone_after_the_owner_was_killed() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        println!("skipped: no redis-server");
        return;
    }
    let (mut owner, pid, ..) = start_owner("redis");
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the server ends", SOON, || !runs(pid)).await;
}

#[tokio::test]
async fn the_nodes_of_a_redis_cluster_are_gone_after_the_owner_was_killed() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        println!("skipped: no redis-server");
        return;
    }
    let helper = helper(&env::current_exe().unwrap(), "owner", "cluster");
    let (mut owner, pids) = start_helper(helper);
    assert_eq!(pids.len(), 5);
    owner.kill().unwrap();
    owner.wait().unwrap();
    for pid in pids {
        let pid = pid.parse().unwrap();
        eventually("a node ends", SOON, || !runs(pid)).await;
    }
}

#[tokio::test]
async fn persistent_data_can_be_used_at_once_after_the_owner_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut owner, pid, _, run) = start_owner(&data.to_string_lossy());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let server = PostgresServer::persistent(&data).start().await.unwrap();
    assert!(!runs(pid));
    assert_eq!(ask(&server, "select 1").await, "1");
    server.stop().await.unwrap();
    eventually("the old socket is removed", SOON, || !run.exists()).await;
}

#[tokio::test]
async fn persistent_data_can_be_used_after_everything_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut owner, pid, _, run) = start_owner(&data.to_string_lossy());
    // The supervisor first, as when a container is killed.
    let parent = "ps -o ppid= -p $1 2>/dev/null || sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$1/stat";
    let script = format!("supervisor=$({parent}); kill -9 $supervisor $1 $2");
    let killed = Command::new("sh")
        .args(["-c", &script, "sh", &pid.to_string(), &owner.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    owner.wait().unwrap();
    let server = PostgresServer::persistent(&data).start().await.unwrap();
    assert!(!runs(pid));
    assert_eq!(ask(&server, "select 1").await, "1");
    server.stop().await.unwrap();
    let _ = std::fs::remove_dir_all(run); // unless the owner still did it, nobody was left to
}
