//! The way to a Redis, be it one server or a cluster. Invariant: a link leads to the same runs of the same servers for
//! the same keys as long as it lives, and never reconnects: once anything fails, it is broken for good, and another
//! takes its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{PushInfo, RedisResult, Value};
use tokio::sync::{Notify, oneshot};

use crate::{
    command::{Call, Command, Digests},
    epoch::Identity,
    node::{Node, Via},
    reply::protocol,
    server::{Server, told},
    topology::Topology,
};

/// What a link is made with.
pub(crate) struct Plan {
    /// Any of them will do that answers.
    pub(crate) servers: Vec<Server>,
    /// To each server.
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    /// The key that shows that Redis takes writes.
    pub(crate) probe: Vec<u8>,
}

pub(crate) struct Link {
    identity: Identity,
    nodes: Vec<Node>,
    /// Of a cluster: which node a key belongs to.
    topology: Option<Topology>,
    seed: Server,
    digests: Digests,
    next: AtomicUsize,
    broken: AtomicBool,
    breaks: Notify,
}

/// The call failed, and with it the link.
#[derive(Debug)]
pub(crate) struct Broken;

impl Link {
    /// Connects to the first server that answers, or to the cluster that it belongs to. With `listener`, one connection
    /// to each server is told of changes to what was read through it: the closure gets each server's messages in the
    /// order of the wire, and the end of each connection.
    pub(crate) async fn connect<T>(plan: &Plan, listener: Option<T>) -> RedisResult<Self>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        let mut failed = protocol("no address of a server was given");
        let first = fastrand::usize(..plan.servers.len().max(1));
        for at in 0..plan.servers.len() {
            let seed = &plan.servers[(first + at) % plan.servers.len()];
            match Self::connect_through(seed, plan, listener.clone()).await {
                Ok(link) => return Ok(link),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn connect_through<T>(
        seed: &Server,
        plan: &Plan,
        listener: Option<T>,
    ) -> RedisResult<Self>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        let mut asking = seed.open(plan.timeout).await?;
        let topology = if told(&mut asking).await?.is_in_cluster {
            Some(seed.topology(&mut asking).await?)
        } else if plan.servers.len() == 1 {
            None
        } else {
            return Err(protocol("several servers must be those of one cluster"));
        };
        let places: Vec<_> = match &topology {
            None => vec![(seed.clone(), Some(plan.probe.clone()))],
            Some(topology) => (0..topology.primaries.len())
                .map(|at| {
                    let primary = &topology.primaries[at];
                    let server = seed.at(&primary.host, primary.port);
                    (server, probe_of(topology, at, &plan.probe))
                })
                .collect(),
        };
        let nodes = try_join_all(places.into_iter().map(|(server, probe)| {
            Node::connect(
                server,
                plan.connections,
                plan.timeout,
                listener.clone(),
                probe,
            )
        }))
        .await?;
        let runs: Vec<_> = nodes.iter().map(Node::run).collect();
        let identity = match &topology {
            None => runs[0],
            Some(topology) => topology.identity(&runs),
        };
        let link = Self {
            identity,
            nodes,
            topology,
            seed: seed.clone(),
            digests: Digests::new(),
            next: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            breaks: Notify::new(),
        };
        link.probe().await?;
        Ok(link)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Returns when the link breaks.
    pub(crate) async fn broken(&self) {
        self.breaks.notified().await;
    }

    /// Ends the link for everybody.
    pub(crate) fn cut(&self) {
        self.broken.store(true, Relaxed);
        self.breaks.notify_one();
    }

    /// Shows that every server answers and takes writes, and that the slots of a cluster are where they were.
    pub(crate) async fn probe(&self) -> RedisResult<()> {
        try_join_all(self.nodes.iter().map(|node| node.probe(&self.digests))).await?;
        if let Some(topology) = &self.topology {
            // One after the other, so that none is believed alone for long.
            let next = self.next.fetch_add(1, Relaxed) % self.nodes.len();
            let mut asking = self.nodes[next].connection(Via::Any);
            let seen = self.seed.topology(&mut asking).await?;
            if !topology.agrees(&seen) {
                return Err(protocol("the slots of the cluster have moved"));
            }
        }
        Ok(())
    }

    /// Returns once everything that any server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> RedisResult<()> {
        try_join_all(self.nodes.iter().map(Node::ping)).await?;
        Ok(())
    }

    /// Reads a cell, together with what others on this runtime read.
    pub(crate) async fn get(self: &Arc<Self>, cell: Vec<u8>) -> Result<Value, Broken> {
        self.enter(cell).await.map_err(|_| Broken)
    }

    /// Reads cells, in their order.
    pub(crate) async fn get_each(
        self: &Arc<Self>,
        cells: Vec<Vec<u8>>,
    ) -> Result<Vec<Value>, Broken> {
        let entered: Vec<_> = cells.into_iter().map(|cell| self.enter(cell)).collect();
        let mut values = Vec::with_capacity(entered.len());
        for answer in entered {
            values.push(answer.await.map_err(|_| Broken)?);
        }
        Ok(values)
    }

    fn enter(self: &Arc<Self>, cell: Vec<u8>) -> oneshot::Receiver<Value> {
        let at = self.place(&cell);
        let lane = self.nodes[at].lane();
        let (answer, is_first) = lane.enter(cell);
        if is_first {
            let link = self.clone();
            tokio::spawn(async move {
                let served = lane.serve().run(|| link.nodes[at].open()).await;
                let _ = link.or_broken(served);
            });
        }
        answer
    }

    /// Gives a command for each of these keys and returns the answers in order: one round trip, and one to each server
    /// of a cluster, at the same time.
    pub(crate) async fn call<const N: usize>(
        &self,
        via: Via,
        command: Command,
        calls: &[Call<'_, N>],
    ) -> Result<Vec<Value>, Broken> {
        let called = match &self.topology {
            None => self.nodes[0].call(via, &self.digests, command, calls).await,
            Some(_) => self.call_spread(via, command, calls).await,
        };
        self.or_broken(called)
    }

    async fn call_spread<const N: usize>(
        &self,
        via: Via,
        command: Command,
        calls: &[Call<'_, N>],
    ) -> RedisResult<Vec<Value>> {
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (at, call) in calls.iter().enumerate() {
            places[self.place(call.key)].push(at);
        }
        let asked = self
            .nodes
            .iter()
            .zip(&places)
            .filter(|(_, places)| !places.is_empty());
        let answers = asked.clone().map(|(node, places)| async move {
            let calls: Vec<_> = places.iter().map(|at| calls[*at]).collect();
            node.call(via, &self.digests, command, &calls).await
        });
        let answers = try_join_all(answers).await?;
        let mut ordered = vec![Value::Nil; calls.len()];
        for ((_, places), answers) in asked.zip(answers) {
            for (at, answer) in places.iter().zip(answers) {
                ordered[*at] = answer;
            }
        }
        Ok(ordered)
    }

    /// The place of the node that serves a key.
    fn place(&self, key: &[u8]) -> usize {
        let topology = self.topology.as_ref();
        topology.map_or(0, |topology| topology.primary_of(key))
    }

    /// Whatever the failure was: a server that refuses what the protocol needs is as good as none.
    fn or_broken<T>(&self, result: RedisResult<T>) -> Result<T, Broken> {
        result.map_err(|error| {
            tracing::debug!(%error, "a call to Redis failed");
            self.cut();
            Broken
        })
    }
}

/// A key of a node, made of this one. If a prefix with a hash tag puts all keys on another node, there is none.
fn probe_of(topology: &Topology, node: usize, key: &[u8]) -> Option<Vec<u8>> {
    let numbered = (0..10_000).map(|number| [key, format!(":{number}").as_bytes()].concat());
    numbered
        .into_iter()
        .find(|key| topology.primary_of(key) == node)
}
