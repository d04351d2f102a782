//! The way to a Redis, be it one server or a cluster. Invariant: a link leads to the same runs of the same servers for
//! the same keys as long as it lives, and never reconnects: once anything fails, it is broken for good, and another
//! takes its place. It is used for one trusted keyspace at most.

use std::{
    iter::zip,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use redis::{PushInfo, Value};
use tokio::sync::{Mutex, oneshot};

use crate::{
    breaker::Breaker,
    clock,
    command::{Calls, Digests},
    connection::Connection,
    epoch::Nonce,
    lane::Changed,
    moment::Moment,
    node::{Node, Seen, Via},
    problem::{Cause, RedisProblem},
    proof::{self, Identity, Proof, Sightings},
    server::{Server, told},
    topology::Topology,
    words::Name,
};

/// What a link is made with.
pub(crate) struct Plan {
    /// Any of them will do that answers.
    pub(crate) servers: Vec<Server>,
    pub(crate) timeout: Duration,
    /// What the instances of an application have in common that use the same keyspace.
    pub(crate) prefix: String,
    /// The key that shows that Redis takes writes.
    pub(crate) probe: Vec<u8>,
    pub(crate) sightings: Arc<Sightings>,
}

pub(crate) struct Link {
    identity: Identity,
    nodes: Vec<Node>,
    /// Of a cluster: which node a key belongs to.
    topology: Option<Topology>,
    seed: Server,
    next: AtomicUsize,
    breaker: Arc<Breaker>,
    prefix: String,
    sightings: Arc<Sightings>,
    /// The epoch and the keyspace that it is used for.
    adopted: OnceLock<(u64, Nonce)>,
    /// When the question was sent to which the proof was last found. Held by the one who asks; others wait for the answer.
    proving: Mutex<Moment>,
    is_retired: AtomicBool,
}

/// The call failed, and with it the link.
#[derive(Debug)]
pub(crate) struct Broken;

/// Why a call had no effect that counts.
#[derive(Debug)]
pub(crate) enum Refused {
    Broken,
    /// The keyspace was not proven to be the trusted one.
    Unproven,
}

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
                Err(problem) if at == 0 || failed.is_none() => failed = Some(problem.at(seed.url())),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| RedisProblem::new(Cause::Mismatch, "no server is named")))
    }

    async fn connect_through<T>(seed: &Server, plan: &Plan, listener: Option<T>) -> Result<Self, RedisProblem>
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
            prefix: plan.prefix.clone(),
            sightings: plan.sightings.clone(),
            adopted: OnceLock::new(),
            proving: Mutex::new(Moment::from_clock(Duration::ZERO)),
            is_retired: AtomicBool::new(false),
        };
        link.probe().await?;
        Ok(link)
    }

    /// The keyspace that it is used for.
    pub(crate) fn keyspace(&self) -> Option<Nonce> {
        self.adopted.get().map(|(_, nonce)| *nonce)
    }

    /// Uses the link for the keyspace of this nonce, if that is what is seen through it.
    pub(crate) async fn adopt(&self, epoch: u64, nonce: Nonce) -> Result<bool, RedisProblem> {
        if !self.sees(epoch, nonce).await? {
            return Ok(false);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if let Some(key) = self.proof_key(at, epoch, nonce) {
                let holds = self.identity;
                node.ask_for(Proof { key, holds });
            }
        }
        let adopted = self.adopted.get_or_init(|| (epoch, nonce));
        Ok(*adopted == (epoch, nonce))
    }

    /// Writes the proof of a nonce that is about to be trusted.
    pub(crate) async fn write_proof(&self, epoch: u64, nonce: Nonce) -> Result<(), RedisProblem> {
        match self.look(epoch, nonce, |_| Seen::New).await? {
            true => Ok(()),
            false => Err(RedisProblem::new(
                Cause::Other,
                "the proof of the keyspace could not be written",
            )),
        }
    }

    /// Has the proof put back that a command has missed, if this is certainly the keyspace in which it was.
    pub(crate) async fn prove(&self) -> Result<(), Broken> {
        let Some((epoch, nonce)) = self.adopted.get() else {
            return Ok(());
        };
        let missed = clock::now();
        let mut proven = self.proving.lock().await;
        if missed < *proven {
            return Ok(());
        }
        let asked = clock::now();
        match self.sees(*epoch, *nonce).await {
            Ok(true) => {
                *proven = asked;
                Ok(())
            }
            Ok(false) | Err(_) => {
                self.cut();
                Err(Broken)
            }
        }
    }

    /// Whether the proof is where it should be, also if it was put back.
    async fn sees(&self, epoch: u64, nonce: Nonce) -> Result<bool, RedisProblem> {
        let seen = |node: &Node| match self.sightings.marks(nonce, node.run()) {
            Some(marks) => Seen::With(marks),
            None => Seen::Never,
        };
        self.look(epoch, nonce, seen).await
    }

    async fn look(&self, epoch: u64, nonce: Nonce, seen: impl Fn(&Node) -> Seen) -> Result<bool, RedisProblem> {
        let looking = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let (key, seen) = (self.proof_key(at, epoch, nonce)?, seen(node));
            Some(async move {
                let marks = node.prove(&key, self.identity, seen).await?;
                Ok::<_, RedisProblem>(marks.map(|marks| (node.run(), marks)))
            })
        });
        let found = try_join_all(looking).await?;
        let found: Option<Vec<_>> = found.into_iter().collect();
        if let Some(servers) = found {
            self.sightings.note(nonce, servers);
            return Ok(true);
        }
        Ok(false)
    }

    /// Where the proof is on this node; `None` if there can be none, nor any cell.
    fn proof_key(&self, node: usize, epoch: u64, nonce: Nonce) -> Option<Vec<u8>> {
        let key = proof::key(&self.prefix, epoch, nonce).into_bytes();
        match &self.topology {
            None => Some(key),
            Some(topology) => probe_of(topology, node, &key),
        }
    }

    /// The run of the server, or of all primaries of the cluster.
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

    /// Ends a link whose keyspace is no longer trusted, though nothing is wrong with it.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Relaxed);
        self.cut();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed)
    }

    /// Shows that every server answers and takes writes, that the trusted keyspace is still there, and that the slots of
    /// a cluster are where they were.
    pub(crate) async fn probe(&self) -> Result<(), RedisProblem> {
        try_join_all(self.nodes.iter().map(Node::probe)).await?;
        if let Some((epoch, nonce)) = self.adopted.get()
            && !self.sees(*epoch, *nonce).await?
        {
            return Err(RedisProblem::new(
                Cause::Other,
                "the trusted keyspace is not seen any more",
            ));
        }
        if let Some(topology) = &self.topology {
            // One after the other, so that none is believed alone for long.
            let next = self.next.fetch_add(1, Relaxed) % self.nodes.len();
            let mut asking = self.nodes[next].control();
            let seen = self.seed.topology(&mut asking).await?;
            if !topology.agrees(&seen) {
                return Err(RedisProblem::new(Cause::Cluster, "slots of the cluster have moved"));
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
    pub(crate) async fn get_each(&self, cells: impl Iterator<Item = Name<'_>>) -> Result<Vec<Value>, Broken> {
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
    pub(crate) async fn call(&self, via: Via, calls: Calls) -> Result<Vec<Value>, Refused> {
        let Some(topology) = &self.topology else {
            return self.changed(self.nodes[0].call(via, calls)).await;
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
            for (at, answer) in zip(places, self.changed(answers).await?) {
                ordered[at] = answer;
            }
        }
        Ok(ordered)
    }

    async fn changed(&self, answer: oneshot::Receiver<Changed>) -> Result<Vec<Value>, Refused> {
        match self.answered(answer).await {
            Ok(Some(values)) => Ok(values),
            Ok(None) => Err(Refused::Unproven),
            Err(Broken) => Err(Refused::Broken),
        }
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
    numbered.into_iter().find(|key| topology.primary_of(key) == node)
}
