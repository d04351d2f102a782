//! A Redis Cluster on this machine. Invariant: every node has its own supervisor, so no node outlives the owner, even
//! if other nodes are dead or frozen.

use std::collections::BTreeSet;

use cenote_local::supervise::{free_port, random_password};
use tokio::task::JoinSet;

use super::{builder::RedisBuilder, server::RedisServer, wait::wait_for};
use crate::error::{Result, command_failed};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// How a [`RedisCluster`] will be started; see [`RedisCluster::temporary`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct RedisClusterBuilder {
    node: RedisBuilder,
}

impl RedisClusterBuilder {
    /// Like [`RedisBuilder::setting`], for every node. `cluster-node-timeout`, by default 2000, is the number of
    /// milliseconds after which a primary counts as failed.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.node = self.node.setting(name, value);
        self
    }

    /// Speaks TLS, also between the nodes, with this certificate and private key of all nodes, which one of these
    /// authorities has signed; all PEM. Clients are asked for a certificate too. See [`RedisCluster::tls_url`].
    pub fn tls(
        mut self,
        certificate: impl Into<String>,
        key: impl Into<String>,
        authorities: impl Into<String>,
    ) -> Self {
        let lines = "tls-cluster yes\ntls-replication yes\n";
        let node = self.node.tls(certificate, key).tls_clients(authorities);
        self.node = node.with_role(lines);
        self
    }

    /// Starts the nodes, makes a cluster of them, and returns when it is [steady](RedisCluster::steady).
    ///
    /// # Errors
    /// As [`RedisBuilder::start`], and [`Error::Command`](cenote_local::Error::Command) if the nodes do not come
    /// together.
    ///
    /// # Cancel safety
    /// If the future is dropped, the nodes are stopped and their files are removed.
    pub async fn start(self) -> Result<RedisCluster> {
        let password = random_password()?;
        let mut starting = JoinSet::new();
        for number in 0..2 * PRIMARIES {
            let bus = free_port()?;
            let role = format!(
                "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\n\
                 cluster-announce-ip 127.0.0.1\ncluster-node-timeout 2000\ncluster-replica-validity-factor 0\n\
                 cluster-allow-replica-migration no\nmasterauth {password}\n"
            );
            let node = self.node.clone().with_password(&password).with_role(&role);
            starting.spawn(async move { node.start().await.map(|node| (number, bus, node)) });
        }
        let mut started = Vec::new();
        while let Some(node) = starting.join_next().await {
            started.push(node.map_err(|ended| command_failed("redis-server", ended.to_string()))??);
        }
        started.sort_by_key(|(number, ..)| *number);
        let buses: Vec<_> = started.iter().map(|(_, bus, _)| *bus).collect();
        let nodes = started.into_iter().map(|(.., node)| node).collect();
        let cluster = RedisCluster { nodes };
        cluster.form(&buses).await?;
        cluster.steady().await?;
        Ok(cluster)
    }
}

/// A running private Redis Cluster: three primaries with a replica each. Dropping it stops all and removes their
/// directories, in the background.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// An empty cluster.
    pub fn temporary() -> RedisClusterBuilder {
        RedisClusterBuilder {
            node: RedisServer::temporary(),
        }
    }

    /// The URLs of all nodes, comma separated.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.nodes.iter().map(RedisServer::url).collect();
        urls.join(",")
    }

    /// The same with TLS; `None` without.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        let urls: Option<Vec<_>> = self.nodes.iter().map(RedisServer::tls_url).collect();
        Some(urls?.join(","))
    }

    /// The nodes, to be killed, frozen and restarted. At first 0 to 2 are the primaries, of a third of the slots each,
    /// and 3 to 5 their replicas, in the same order.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns when all running nodes agree that the cluster is well, that running nodes serve all slots, and that
    /// every running replica has caught up: after a primary was killed, when its replica has taken its place.
    ///
    /// # Errors
    /// [`Error::Command`](cenote_local::Error::Command) if that takes longer than a minute. A frozen node counts as
    /// running.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub async fn steady(&self) -> Result<()> {
        wait_for("the cluster is steady", || self.is_steady()).await
    }

    /// Makes a cluster of nodes that do not know each other.
    async fn form(&self, buses: &[u16]) -> Result<()> {
        let (primaries, replicas) = self.nodes.split_at(PRIMARIES);
        for (number, node) in primaries.iter().enumerate() {
            let first = (number * SLOTS / PRIMARIES).to_string();
            let last = ((number + 1) * SLOTS / PRIMARIES - 1).to_string();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
            // Different from the start; otherwise the primaries first have to resolve which claim is newer.
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
        }
        for (node, bus) in self.nodes.iter().zip(buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
            self.nodes[0].command(&meet).await?;
        }
        for (primary, replica) in primaries.iter().zip(replicas) {
            let id = &primary.command(&["CLUSTER", "MYID"]).await?;
            // Fails until the replica knows the primary.
            wait_for("a replica knows its primary", || async move {
                let replicate = replica.command(&["CLUSTER", "REPLICATE", id]).await;
                replicate.map(|_| true)
            })
            .await?;
        }
        Ok(())
    }

    async fn is_steady(&self) -> Result<bool> {
        let running = || self.nodes.iter().filter(|node| node.pid().is_some());
        let (mut views, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for node in running() {
            let info = node.command(&["CLUSTER", "INFO"]).await?;
            let replication = node.command(&["INFO", "replication"]).await?;
            if !info.contains("cluster_state:ok") || replication.contains("master_link_status:down") {
                return Ok(false);
            }
            ids.insert(node.command(&["CLUSTER", "MYID"]).await?);
            views.insert(owners(&node.command(&["CLUSTER", "NODES"]).await?));
        }
        let agreed = views.pop_first().filter(|_| views.is_empty());
        Ok(agreed.is_some_and(|owners| {
            let replicas = owners.iter().filter(|owner| owner.slots.is_empty());
            let serve = owners.iter().filter(|owner| !owner.slots.is_empty());
            let followed = serve.clone().count() == PRIMARIES && replicas.count() + PRIMARIES == running().count();
            followed && serve.into_iter().all(|owner| ids.contains(&owner.id))
        }))
    }
}

/// A node that has not failed, as another node describes it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    id: String,
    /// Empty for a replica.
    slots: String,
}

/// Reads the answer to `CLUSTER NODES`.
fn owners(nodes: &str) -> BTreeSet<Owner> {
    let owner = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let flags = *words.get(2)?;
        let failed = ["fail", "handshake", "noaddr"];
        let is_well = flags.split(',').all(|flag| !failed.contains(&flag));
        is_well.then(|| Owner {
            id: words[0].to_owned(),
            slots: words.get(8..).unwrap_or_default().join(" "),
        })
    };
    nodes.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_of_the_nodes_tells_who_serves_which_slots() {
        let nodes = "aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 5462\n\
                     bb 127.0.0.1:3@4 slave aa 0 0 1 connected\n\
                     cc 127.0.0.1:5@6 master,fail - 0 0 1 connected\n";
        let owners: Vec<_> = owners(nodes).into_iter().map(|owner| (owner.id, owner.slots)).collect();
        let expected = [("aa", "0-5460 5462"), ("bb", "")];
        assert_eq!(owners, expected.map(|(id, slots)| (id.to_owned(), slots.to_owned())));
    }
}
