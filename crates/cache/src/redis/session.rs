//! A session with a Redis, one server or a cluster. Invariant: as long as a session lives, it leads to the same runs of the
//! same servers for the same keys. It never reconnects: the first failure breaks it for good, and another session takes its
//! place. It is used for one trusted keyspace at most.

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
    clock,
    protocol::{
        arguments::CellKey,
        epoch::Nonce,
        keyspace_proof::{self, Identity, KeyspaceProof},
        time::BootTime,
    },
    redis::{
        breaker::Breaker,
        command::{CellCalls, Digests},
        connection::Connection,
        node_connection::{NodeConnection, PastProof, Via},
        problem::{RedisProblem, RedisProblemKind},
        server::{Server, server_info},
        sightings::Sightings,
        topology::Topology,
        worker::Request,
    },
};

/// How sessions are opened.
pub(crate) struct SessionConfig {
    /// The first that answers is used.
    pub(crate) servers: Vec<Server>,
    /// A server that does not answer for this long counts as lost.
    pub(crate) timeout: Duration,
    /// The prefix of all keys, the same for all instances of an application.
    pub(crate) prefix: String,
    /// The key that is written to show that Redis takes writes.
    pub(crate) probe: Vec<u8>,
    pub(crate) sightings: Arc<Sightings>,
}

pub(crate) struct Session {
    identity: Identity,
    nodes: Vec<NodeConnection>,
    /// In a cluster: which node serves a key.
    topology: Option<Topology>,
    /// The server through which the session was opened.
    seed: Server,
    /// Which node is asked next for the topology. Relaxed: any order will do.
    next: AtomicUsize,
    breaker: Arc<Breaker>,
    prefix: String,
    sightings: Arc<Sightings>,
    /// The epoch and the keyspace that the session is used for.
    adopted: OnceLock<(u64, Nonce)>,
    /// When the request was sent that last found the proof. Held across the request: callers that miss the proof at the same
    /// time wait for one answer instead of asking as well.
    proving: Mutex<BootTime>,
    /// Relaxed: read only after the breaker has woken the reader.
    is_retired: AtomicBool,
}

/// A request failed, and with it the session.
#[derive(Debug)]
pub(crate) struct Broken;

/// Why calls had no effect.
#[derive(Debug)]
pub(crate) enum Refused {
    Broken,
    /// The keyspace was not proven to be the trusted one.
    Unproven,
}

impl Session {
    /// Connects to the first server that answers, or to its cluster. With `listener`, one connection to each server is
    /// told of changes to what was read through it: the closure gets each server's messages in wire order, and the end of
    /// each connection.
    pub(crate) async fn connect<T>(config: &SessionConfig, listener: Option<T>) -> Result<Self, RedisProblem>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        // The problem of the first named server is reported, whichever was tried first: otherwise each try would log
        // another problem.
        let mut failed = None;
        let first = fastrand::usize(..config.servers.len().max(1));
        for at in 0..config.servers.len() {
            let at = (first + at) % config.servers.len();
            let seed = &config.servers[at];
            match Self::connect_through(seed, config, listener.clone()).await {
                Ok(session) => return Ok(session),
                Err(problem) if at == 0 || failed.is_none() => failed = Some(problem.at(seed.url())),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| RedisProblem::new(RedisProblemKind::Mismatch, "no server is named")))
    }

    async fn connect_through<T>(
        seed: &Server,
        config: &SessionConfig,
        listener: Option<T>,
    ) -> Result<Self, RedisProblem>
    where
        T: Fn(PushInfo) + Clone + Send + Sync + 'static,
    {
        let mut asking = seed.open(config.timeout).await?;
        let topology = if server_info(&mut asking).await?.is_in_cluster {
            Some(seed.topology(&mut asking).await?)
        } else if config.servers.len() > 1 {
            let happened = "it belongs to no cluster, and several servers must be those of one";
            return Err(RedisProblem::new(RedisProblemKind::Mismatch, happened));
        } else if seed.url().must_be_cluster {
            let happened = "it belongs to no cluster, which the scheme of the URL asks for";
            return Err(RedisProblem::new(RedisProblemKind::Mismatch, happened));
        } else {
            None
        };
        let places: Vec<_> = match &topology {
            None => vec![(seed.clone(), Some(config.probe.clone()))],
            Some(topology) => (0..topology.primaries.len())
                .map(|at| {
                    let primary = &topology.primaries[at];
                    let server = seed.at(&primary.host, primary.port);
                    (server, probe_of(topology, at, &config.probe))
                })
                .collect(),
        };
        let (breaker, digests) = (Arc::<Breaker>::default(), Arc::new(Digests::new()));
        let nodes = try_join_all(places.into_iter().map(|(server, probe)| {
            NodeConnection::connect(
                server,
                config.timeout,
                listener.clone(),
                probe,
                breaker.clone(),
                digests.clone(),
            )
        }))
        .await?;
        let runs: Vec<_> = nodes.iter().map(NodeConnection::run).collect();
        let identity = match &topology {
            None => runs[0],
            Some(topology) => topology.identity(&runs),
        };
        let session = Self {
            identity,
            nodes,
            topology,
            seed: seed.clone(),
            next: AtomicUsize::new(0),
            breaker,
            prefix: config.prefix.clone(),
            sightings: config.sightings.clone(),
            adopted: OnceLock::new(),
            proving: Mutex::new(BootTime::from_clock(Duration::ZERO)),
            is_retired: AtomicBool::new(false),
        };
        session.probe().await?;
        Ok(session)
    }

    /// The keyspace that the session is used for.
    pub(crate) fn keyspace(&self) -> Option<Nonce> {
        self.adopted.get().map(|(_, nonce)| *nonce)
    }

    /// Uses the session for the keyspace of this nonce if its proof is found. Returns whether the session is used for it.
    pub(crate) async fn adopt(&self, epoch: u64, nonce: Nonce) -> Result<bool, RedisProblem> {
        if !self.sees(epoch, nonce).await? {
            return Ok(false);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if let Some(key) = self.proof_key(at, epoch, nonce) {
                let holds = self.identity;
                node.ask_for(KeyspaceProof { key, holds });
            }
        }
        let adopted = self.adopted.get_or_init(|| (epoch, nonce));
        Ok(*adopted == (epoch, nonce))
    }

    /// Writes the proof of a nonce that is about to be trusted.
    pub(crate) async fn write_proof(&self, epoch: u64, nonce: Nonce) -> Result<(), RedisProblem> {
        match self.look(epoch, nonce, |_| PastProof::New).await? {
            true => Ok(()),
            false => Err(RedisProblem::new(
                RedisProblemKind::Other,
                "the proof of the keyspace could not be written",
            )),
        }
    }

    /// Puts back the proof that a command has missed, if this is certainly the keyspace in which it was.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "one caller looks for the proof at a time, and the others take its result"
    )]
    pub(crate) async fn prove(&self) -> Result<(), Broken> {
        let Some((epoch, nonce)) = self.adopted.get() else {
            return Ok(());
        };
        let missed = clock::now();
        let mut proven = self.proving.lock().await;
        // Another caller has found the proof since.
        if missed < *proven {
            return Ok(());
        }
        let asked = clock::now();
        match self.sees(*epoch, *nonce).await {
            Ok(true) => {
                *proven = asked;
                Ok(())
            }
            Ok(false) | Err(_) => Err(self.fail()),
        }
    }

    /// Whether the proof is found on every node, including where it was just put back.
    async fn sees(&self, epoch: u64, nonce: Nonce) -> Result<bool, RedisProblem> {
        let seen = |node: &NodeConnection| match self.sightings.marks(nonce, node.run()) {
            Some(marks) => PastProof::With(marks),
            None => PastProof::Never,
        };
        self.look(epoch, nonce, seen).await
    }

    async fn look(
        &self,
        epoch: u64,
        nonce: Nonce,
        seen: impl Fn(&NodeConnection) -> PastProof,
    ) -> Result<bool, RedisProblem> {
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

    /// The key of the proof on this node; `None` if the prefix puts all keys on other nodes.
    fn proof_key(&self, node: usize, epoch: u64, nonce: Nonce) -> Option<Vec<u8>> {
        let key = keyspace_proof::key(&self.prefix, epoch, nonce).into_bytes();
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

    /// Waits until the session breaks.
    pub(crate) async fn broken(&self) {
        self.breaker.opened().await;
    }

    /// Why the session broke, if that is known.
    pub(crate) fn reason(&self) -> Option<RedisProblem> {
        self.breaker.reason()
    }

    /// Breaks the session for all its users.
    pub(crate) fn cut(&self) {
        self.breaker.open();
    }

    /// Breaks the session, and returns the error for it. For a server that refuses a command of the protocol, and so cannot be
    /// used.
    pub(crate) fn fail(&self) -> Broken {
        self.cut();
        Broken
    }

    /// Ends a session whose keyspace is no longer trusted. Nothing is wrong with it, so this is not reported as a problem.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Relaxed);
        self.cut();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed)
    }

    /// Checks that every server answers and takes writes, that the trusted keyspace is still there, and that the slots of a
    /// cluster have not moved.
    pub(crate) async fn probe(&self) -> Result<(), RedisProblem> {
        try_join_all(self.nodes.iter().map(NodeConnection::probe)).await?;
        if let Some((epoch, nonce)) = self.adopted.get()
            && !self.sees(*epoch, *nonce).await?
        {
            return Err(RedisProblem::new(
                RedisProblemKind::Other,
                "the trusted keyspace is not seen any more",
            ));
        }
        if let Some(topology) = &self.topology {
            // Another node each time: one that was cut off from the cluster would report the old slots for ever.
            let next = self.next.fetch_add(1, Relaxed) % self.nodes.len();
            let mut asking = self.nodes[next].control();
            let seen = self.seed.topology(&mut asking).await?;
            if !topology.agrees(&seen) {
                return Err(RedisProblem::new(
                    RedisProblemKind::Cluster,
                    "slots of the cluster have moved",
                ));
            }
        }
        Ok(())
    }

    /// A connection to each server for commands about the server itself.
    pub(crate) fn controls(&self) -> Vec<Connection> {
        self.nodes.iter().map(NodeConnection::control).collect()
    }

    /// The number of the database.
    pub(crate) fn database(&self) -> u32 {
        self.seed.url().database
    }

    /// Returns once every message that any server sent before it got this has been applied.
    pub(crate) async fn ping(&self) -> Result<(), RedisProblem> {
        try_join_all(self.nodes.iter().map(NodeConnection::ping)).await?;
        Ok(())
    }

    /// Asks for a cell, together with what others on this runtime ask for. The channel closes if the session fails.
    pub(crate) fn ask(&self, cell: CellKey<'_>) -> oneshot::Receiver<Value> {
        let at = match &self.topology {
            None => 0,
            Some(topology) => topology.primary_of(&cell.concat()),
        };
        let (answer, answered) = oneshot::channel();
        self.nodes[at].submit(Via::Reading, Request::Read { cell, answer });
        answered
    }

    /// Sends calls and returns the answers in order: one round trip, in a cluster one to each server at the same time.
    pub(crate) async fn call(&self, via: Via, calls: CellCalls) -> Result<Vec<Value>, Refused> {
        let Some(topology) = &self.topology else {
            return self.changed(&self.nodes[0], via, calls).await;
        };
        let mut ordered = vec![Value::Nil; calls.len()];
        let parts = calls.spread(self.nodes.len(), |cell| topology.primary_of(cell));
        let (parts, positions): (Vec<_>, Vec<_>) = zip(&self.nodes, parts)
            .filter(|(_, (calls, _))| calls.len() > 0)
            .map(|(node, (calls, positions))| (self.changed(node, via, calls), positions))
            .unzip();
        for (answers, positions) in zip(try_join_all(parts).await?, positions) {
            for (at, answer) in zip(positions, answers) {
                ordered[at] = answer;
            }
        }
        Ok(ordered)
    }

    async fn changed(&self, node: &NodeConnection, via: Via, calls: CellCalls) -> Result<Vec<Value>, Refused> {
        let (answer, answered) = oneshot::channel();
        node.submit(via, Request::Change { calls, answer });
        match answered.await {
            Ok(Some(values)) => Ok(values),
            Ok(None) => Err(Refused::Unproven),
            Err(_) => {
                self.cut();
                Err(Refused::Broken)
            }
        }
    }
}

/// A key that a node serves, made from this one by a suffix. `None` if the prefix has a hash tag that puts all keys on
/// another node; ten thousand suffixes reach any node that serves a reasonable share of the slots.
fn probe_of(topology: &Topology, node: usize, key: &[u8]) -> Option<Vec<u8>> {
    let numbered = (0..10_000).map(|number| [key, format!(":{number}").as_bytes()].concat());
    numbered.into_iter().find(|key| topology.primary_of(key) == node)
}
