//! The way to a Redis, be it one server or a cluster. Invariant: a link leads to the same runs of the same servers for
//! the same keys as long as it lives, and never reconnects: once anything fails, it is broken for good, and another
//! takes its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{PushInfo, Value};
use tokio::sync::oneshot;

use crate::{
    breaker::Breaker,
    command::{Calls, Digests},
    connection::Connection,
    epoch::Identity,
    node::{Node, Via},
    problem::{Cause, RedisProblem},
    server::{Server, told},
    topology::Topology,
    words::Name,
};

/// What a link is made with.
pub(crate) struct Plan {
    /// Any of them will do that answers.
    pub(crate) servers: Vec<Server>,
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
    next: AtomicUsize,
    breaker: Arc<Breaker>,
}

/// The call failed, and with it the link.
#[derive(Debug)]
pub(crate) struct Broken;

impl Link {
    /// Connects to the first server that answers, or to the cluster that it belongs to. With `listener`, one connection
    /// to each server is told of changes to what was read through it: the closure gets each server's messages in the
    /// order of the wire, and the end of each connection.
    pub(crate) async fn connect<T>(plan: &Plan, listener: Option<T>) -> Result<Self, RedisProblem>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        // What is told is about the first that is named: with another each time the log would not come to rest.
        let mut failed = None;
        let first = fastrand::usize(..plan.servers.len().max(1));
        for at in 0..plan.servers.len() {
            let at = (first + at) % plan.servers.len();
            let seed = &plan.servers[at];
            match Self::connect_through(seed, plan, listener.clone()).await {
                Ok(link) => return Ok(link),
                Err(problem) if at == 0 || failed.is_none() => {
                    failed = Some(problem.at(seed.url()))
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| RedisProblem::new(Cause::Mismatch, "no server is named")))
    }

    async fn connect_through<T>(
        seed: &Server,
        plan: &Plan,
        listener: Option<T>,
    ) -> Result<Self, RedisProblem>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        let mut asking = seed.open(plan.timeout).await?;
        let topology = if told(&mut asking).await?.is_in_cluster {
            Some(seed.topology(&mut asking).await?)
        } else if plan.servers.len() > 1 {
            let happened = "it belongs to no cluster, and several servers must be those of one";
            return Err(RedisProblem::new(Cause::Mismatch, happened));
        } else if seed.url().must_be_cluster {
            let happened = "it belongs to no cluster, which the scheme of the URL asks for";
            return Err(RedisProblem::new(Cause::Mismatch, happened));
        } else {
            None
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
        let (breaker, digests) = (Arc::<Breaker>::default(), Arc::new(Digests::new()));
        let nodes = try_join_all(places.into_iter().map(|(server, probe)| {
            Node::connect(
                server,
                plan.timeout,
                listener.clone(),
                probe,
                breaker.clone(),
                digests.clone(),
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
            next: AtomicUsize::new(0),
            breaker,
        };
        link.probe().await?;
        Ok(link)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// Returns when the link breaks.
    pub(crate) async fn broken(&self) {
        self.breaker.opened().await;
    }

    /// Why it broke, if that is known.
    pub(crate) fn reason(&self) -> Option<RedisProblem> {
        self.breaker.reason()
    }

    /// Ends the link for everybody.
    pub(crate) fn cut(&self) {
        self.breaker.open();
    }

    /// Shows that every server answers and takes writes, and that the slots of a cluster are where they were.
    pub(crate) async fn probe(&self) -> Result<(), RedisProblem> {
        try_join_all(self.nodes.iter().map(Node::probe)).await?;
        if let Some(topology) = &self.topology {
            // One after the other, so that none is believed alone for long.
            let next = self.next.fetch_add(1, Relaxed) % self.nodes.len();
            let mut asking = self.nodes[next].control();
            let seen = self.seed.topology(&mut asking).await?;
            if !topology.agrees(&seen) {
                return Err(RedisProblem::new(
                    Cause::Cluster,
                    "slots of the cluster have moved",
                ));
            }
        }
        Ok(())
    }

    /// A connection to each server for what is asked of the server itself.
    pub(crate) fn controls(&self) -> Vec<Connection> {
        self.nodes.iter().map(Node::control).collect()
    }

    /// The number of the database.
    pub(crate) fn database(&self) -> u32 {
        self.seed.url().database
    }

    /// Returns once everything that any server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> Result<(), RedisProblem> {
        try_join_all(self.nodes.iter().map(Node::ping)).await?;
        Ok(())
    }

    /// Reads a cell, together with what others on this runtime ask for.
    pub(crate) async fn get(&self, cell: Name<'_>) -> Result<Value, Broken> {
        self.answered(self.ask(cell)).await
    }

    /// Reads cells, in their order.
    pub(crate) async fn get_each(
        &self,
        cells: impl Iterator<Item = Name<'_>>,
    ) -> Result<Vec<Value>, Broken> {
        let asked: Vec<_> = cells.map(|cell| self.ask(cell)).collect();
        let mut values = Vec::with_capacity(asked.len());
        for answer in asked {
            values.push(self.answered(answer).await?);
        }
        Ok(values)
    }

    fn ask(&self, cell: Name<'_>) -> oneshot::Receiver<Value> {
        let at = match &self.topology {
            None => 0,
            Some(topology) => topology.primary_of(&cell.concat()),
        };
        self.nodes[at].read(cell)
    }

    /// Gives a command for each of these cells and returns the answers in order: one round trip, and one to each server
    /// of a cluster, at the same time.
    pub(crate) async fn call(&self, via: Via, calls: Calls) -> Result<Vec<Value>, Broken> {
        let Some(topology) = &self.topology else {
            return self.answered(self.nodes[0].call(via, calls)).await;
        };
        let mut ordered = vec![Value::Nil; calls.len()];
        let parts = calls.spread(self.nodes.len(), |cell| topology.primary_of(cell));
        let asked: Vec<_> = self
            .nodes
            .iter()
            .zip(parts)
            .filter(|(_, (calls, _))| calls.len() > 0)
            .map(|(node, (calls, places))| (node.call(via, calls), places))
            .collect();
        for (answers, places) in asked {
            for (at, answer) in places.into_iter().zip(self.answered(answers).await?) {
                ordered[at] = answer;
            }
        }
        Ok(ordered)
    }

    /// Whatever the failure was: a server that refuses what the protocol needs is as good as none.
    async fn answered<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Broken> {
        answer.await.map_err(|_| {
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
