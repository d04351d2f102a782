//! The connections to one run of one server. Invariant: all of them lead to the same run; one that would lead to another is
//! not used.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{Cmd, PushInfo, Value};
use tokio::{
    runtime::{self, Handle},
    time::timeout,
};

use crate::{
    protocol::{
        keyspace_proof::{self, Identity, KeyspaceProof},
        scripts,
    },
    redis::{
        breaker::Breaker,
        command::{Digests, load_scripts, rehearse},
        connection::Connection,
        errors::timed_out,
        problem::{RedisProblem, RedisProblemKind},
        server::{CONNECTING, Server, ServerInfo, server_info},
        sightings::Marks,
        worker::{Request, Worker, WorkerConfig},
    },
};

/// Which connection a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The one of the current runtime.
    Own,
    /// The tracked connection, if there is one.
    Reading,
}

/// What this instance knows of a proof on a server.
pub(crate) enum PastProof {
    /// The proof has yet to be written.
    New,
    /// The marks that the server reported when the proof was last found.
    With(Marks),
    /// The proof was never found.
    Never,
}

pub(crate) struct NodeConnection {
    server: Server,
    /// A server that does not answer for this long counts as lost.
    limit: Duration,
    run: Identity,
    is_in_cluster: bool,
    /// For commands about the server itself.
    control: Connection,
    /// The tracked connection, which gets the invalidations.
    reading: Option<Connection>,
    /// Read by every request, changed when a runtime sends its first.
    workers: ArcSwap<Vec<Arc<RuntimeWorker>>>,
    breaker: Arc<Breaker>,
    digests: Arc<Digests>,
    /// A key that this server serves. `None` if the prefix puts all keys on other servers.
    probe: Option<Vec<u8>>,
    /// What every command must find, once the session is in use. Not in a cluster: there the proof would have to share the
    /// cells' slot, and a cluster has only one keyspace.
    proof: OnceLock<Arc<KeyspaceProof>>,
}

/// The worker of a runtime.
struct RuntimeWorker {
    runtime: runtime::Id,
    via: Via,
    worker: Worker,
}

impl NodeConnection {
    /// Connects. With `listener`, one connection is tracked: it gets the invalidations of the keys that were read through it.
    pub(crate) async fn connect<T>(
        server: Server,
        limit: Duration,
        listener: Option<T>,
        probe: Option<Vec<u8>>,
        breaker: Arc<Breaker>,
        digests: Arc<Digests>,
    ) -> Result<Self, RedisProblem>
    where
        T: Fn(PushInfo) + Send + Sync + 'static,
    {
        let at_server = |problem: RedisProblem| problem.at(server.url());
        let mut control = server.open(limit).await?;
        let ServerInfo {
            run,
            is_in_cluster,
            is_primary,
        } = server_info(&mut control).await.map_err(at_server)?;
        let reading = match listener {
            None => None,
            Some(listener) => {
                let opening = async {
                    let mut reading = server.open_tracked(limit, listener).await?;
                    same(run, &mut reading).await?;
                    Ok(reading)
                };
                Some(connecting(limit, opening).await?)
            }
        };
        load_scripts(&mut control.commands)
            .await
            .map_err(|error| at_server(error.into()))?;
        if let Some(cell) = &probe {
            let rehearsed = rehearse(&mut control.commands, &digests, cell).await;
            rehearsed.map_err(|error| at_server(error.into()))?;
        }
        // After the rehearsal: a replica that refuses writes has by then said so in its own words.
        if !is_primary {
            return Err(at_server(RedisProblem::new(
                RedisProblemKind::Replica,
                "it is a replica",
            )));
        }
        Ok(Self {
            server,
            limit,
            run,
            is_in_cluster,
            control,
            reading,
            workers: ArcSwap::default(),
            breaker,
            digests,
            probe,
            proof: OnceLock::new(),
        })
    }

    pub(crate) fn run(&self) -> Identity {
        self.run
    }

    /// Checks that the server takes writes: a replica, or a server without memory, cannot hold fences. Also checks that it
    /// was not a replica meanwhile, because then it holds what another server held. Every worker pings, so that a
    /// connection that is gone breaks the session even if nobody uses it.
    pub(crate) async fn probe(&self) -> Result<(), RedisProblem> {
        for known in &**self.workers.load() {
            known.worker.submit(Request::Ping);
        }
        let mut control = self.control.clone();
        if let Some(key) = &self.probe {
            let mut fence = Cmd::new();
            fence.arg("EVAL").arg(scripts::FENCE).arg(1).arg(key);
            fence.arg(&[0_u8; 16][..]).arg(1000).arg("");
            let fenced: Result<(), _> = fence.query_async(&mut control.commands).await;
            fenced.map_err(|error| self.problem(error))?;
        }
        let same = same(self.run, &mut control).await;
        same.map_err(|problem| self.problem(problem))
    }

    /// Looks for a proof; `None` if it is missing. A missing proof is put back if the server reports the same marks as when the
    /// proof was last found. A new one is written.
    pub(crate) async fn prove(
        &self,
        key: &[u8],
        holds: Identity,
        past: PastProof,
    ) -> Result<Option<Marks>, RedisProblem> {
        let mut prove = Cmd::new();
        prove.arg("EVAL").arg(scripts::PROVE).arg(1).arg(key);
        let lasts = u64::try_from(keyspace_proof::LASTS.as_millis()).unwrap_or(u64::MAX);
        prove.arg(&holds.0).arg(lasts);
        match &past {
            PastProof::New => prove.arg("new"),
            PastProof::With(marks) => prove.arg(marks),
            PastProof::Never => prove.arg(""),
        };
        let answer = prove.query_async(&mut self.control.clone().commands).await;
        match answer.map_err(|error| self.problem(error))? {
            Value::BulkString(marks) => Ok(Some(marks)),
            _ => Ok(None),
        }
    }

    /// From now on every command asks for this proof.
    pub(crate) fn ask_for(&self, proof: KeyspaceProof) {
        if !self.is_in_cluster {
            let _first = self.proof.set(Arc::new(proof));
        }
    }

    /// Returns once every message that the server sent before it got this has been applied.
    pub(crate) async fn ping(&self) -> Result<(), RedisProblem> {
        let mut connection = self.reading.as_ref().unwrap_or(&self.control).clone();
        let ping = redis::cmd("PING");
        let pinged = timeout(self.limit, ping.query_async(&mut connection.commands));
        let pinged = pinged.await.unwrap_or_else(|_| Err(timed_out()));
        pinged.map_err(|error| self.problem(error))
    }

    /// An error of this server, with its address.
    fn problem(&self, error: impl Into<RedisProblem>) -> RedisProblem {
        error.into().at(self.server.url())
    }

    /// A connection for commands about the server itself.
    pub(crate) fn control(&self) -> Connection {
        self.control.clone()
    }

    /// Puts a request in at the worker of the current runtime, where it goes together with others.
    pub(crate) fn submit(&self, via: Via, request: Request<'_>) {
        let via = match self.reading {
            Some(_) => via,
            None => Via::Own,
        };
        let runtime = Handle::current().id();
        let is_it = |known: &&Arc<RuntimeWorker>| known.runtime == runtime && known.via == via;
        if let Some(known) = self.workers.load().iter().find(is_it) {
            return known.worker.submit(request);
        }
        let made = Arc::new(RuntimeWorker {
            runtime,
            via,
            worker: Worker::new(),
        });
        self.workers.rcu(|workers| {
            let is_open = |known: &&Arc<RuntimeWorker>| !known.worker.is_closed();
            let mut workers: Vec<_> = workers.iter().filter(is_open).cloned().collect();
            if !workers.iter().any(|known| is_it(&known)) {
                workers.push(made.clone());
            }
            workers
        });
        // Another thread of the runtime may have been first.
        match self.workers.load().iter().find(is_it) {
            Some(known) if !Arc::ptr_eq(known, &made) => known.worker.submit(request),
            _ => {
                tokio::spawn(made.worker.run(self.worker_config(), self.open(via)));
                made.worker.submit(request);
            }
        }
    }

    fn worker_config(&self) -> WorkerConfig {
        WorkerConfig {
            server: self.server.url().clone(),
            is_in_cluster: self.is_in_cluster,
            timeout: self.limit,
            breaker: self.breaker.clone(),
            digests: self.digests.clone(),
            proof: self.proof.get().cloned(),
            times: self.server.times().clone(),
        }
    }

    /// Opens a connection for a worker. Its driver runs on the runtime that awaits this.
    fn open(&self, via: Via) -> impl Future<Output = Result<Connection, RedisProblem>> + use<> {
        let reading = self.reading.clone().filter(|_| via == Via::Reading);
        let (server, run, limit) = (self.server.clone(), self.run, self.limit);
        async move {
            match reading {
                Some(reading) => Ok(reading),
                None => {
                    let opening = async {
                        let mut own = server.open_untimed(limit).await?;
                        same(run, &mut own).await?;
                        Ok(own)
                    };
                    connecting(limit, opening).await
                }
            }
        }
    }
}

/// Bounds the time of opening a connection.
async fn connecting(
    limit: Duration,
    opening: impl Future<Output = Result<Connection, RedisProblem>>,
) -> Result<Connection, RedisProblem> {
    let opened = timeout(limit.saturating_mul(CONNECTING), opening).await;
    opened.unwrap_or_else(|_| Err(timed_out().into()))
}

/// Refuses a connection that leads to another run.
async fn same(run: Identity, connection: &mut Connection) -> Result<(), RedisProblem> {
    let told = server_info(connection).await?;
    match told.run == run && told.is_primary {
        true => Ok(()),
        false => Err(RedisProblem::new(
            RedisProblemKind::Other,
            "another server answers at its address now, or it has become a replica",
        )),
    }
}
