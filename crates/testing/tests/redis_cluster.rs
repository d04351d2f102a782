//! A private Redis Cluster serves all slots, survives the loss of a primary, and ends with its owner.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::time::Duration;

use cenote_testing::{Error, RedisCluster, RedisServer, eventually, runs};

async fn cluster() -> Option<RedisCluster> {
    match RedisCluster::temporary().start().await {
        Err(Error::RedisMissing { .. }) => {
            println!("skipped: no redis-server");
            None
        }
        started => Some(started.unwrap()),
    }
}

async fn role(node: &RedisServer) -> String {
    let told = node.command(&["INFO", "replication"]).await.unwrap();
    let role = told.lines().find_map(|line| line.strip_prefix("role:"));
    role.unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_replica_takes_the_place_of_a_killed_primary_which_comes_back_as_a_replica() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let [primary, .., replica] = [0, 1, 2, 3].map(|at| &cluster.nodes()[at]);
    // Slot 3300, of the first primary.
    primary.command(&["SET", "b", "1"]).await.unwrap();
    let elsewhere = cluster.nodes()[1].command(&["SET", "b", "1"]).await;
    assert!(elsewhere.unwrap_err().to_string().contains("MOVED 3300"));
    let copied = primary.command(&["WAIT", "1", "10000"]).await.unwrap();
    assert_eq!(copied, "1");

    primary.kill().await.unwrap();
    cluster.steady().await.unwrap();
    assert_eq!(role(replica).await, "master");
    assert_eq!(replica.command(&["GET", "b"]).await.unwrap(), "1");

    primary.restart().await.unwrap();
    cluster.steady().await.unwrap();
    assert_eq!(role(primary).await, "slave");
}

#[tokio::test]
async fn all_nodes_end_when_it_is_dropped() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let pids: Vec<_> = cluster.nodes().iter().map(|node| node.pid().unwrap()).collect();
    drop(cluster);
    for pid in pids {
        eventually("the node ends", Duration::from_secs(10), || !runs(pid)).await;
    }
}
