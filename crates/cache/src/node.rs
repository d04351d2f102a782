//! The connections to one run of one server. Invariant: all lead to the same run; one that would lead to another is not
//! used.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{Cmd, PushInfo, Value};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::timeout,
};

use crate::{
    breaker::Breaker,
    command::{Calls, Digests, load_scripts, rehearse},
    connection::Connection,
    lane::{Changed, Lane, Way},
    problem::{Cause, RedisProblem},
    proof::{self, Identity, Marks, Proof},
    reply::{bytes, timed_out},
    scripts,
    server::{CONNECTING, Server, Told, told},
    words::Name,
};

/// Which connection a question takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The runtime's own.
    Own,
    /// The one that is told of changes, if there is one.
    Reading,
}

/// When a proof was last found on a server.
pub(crate) enum Seen {
    /// It has yet to be written.
    New,
    /// When the server told this of its past.
    With(Marks),
    Never,
}

pub(crate) struct Node {
    server: Server,
    /// After what time without an answer the server counts as lost.
    limit: Duration,
    run: Identity,
    is_in_cluster: bool,
    /// For what is asked of the server itself.
    control: Connection,
    reading: Option<Connection>,
    lanes: ArcSwap<Vec<Arc<RuntimesLane>>>,
    breaker: Arc<Breaker>,
    digests: Arc<Digests>,
    /// A key that the server serves, if any does that begins as it must.
    probe: Option<Vec<u8>>,
    /// What is asked for in every command, once the link is used. Not in a cluster: there it would have to share the
    /// cells' slot, and there is one keyspace only.
    proof: OnceLock<Arc<Proof>>,
}

/// The lane of a runtime.
struct RuntimesLane {
    runtime: runtime::Id,
    via: Via,
    lane: Lane,
}

impl Node {
    /// Connects. With `listener`, one connection is told of changes to what was read through it.
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
        let Told {
            run,
            is_in_cluster,
            is_primary,
        } = told(&mut control).await.map_err(at_server)?;
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
        load_scripts(&mut control)
            .await
            .map_err(|error| at_server(error.into()))?;
        if let Some(cell) = &probe {
            let rehearsed = rehearse(&mut control, &digests, cell).await;
            rehearsed.map_err(|error| at_server(error.into()))?;
        }
        // One that takes writes would have been refused in its own words.
        if !is_primary {
            return Err(at_server(RedisProblem::new(Cause::Replica, "it is a replica")));
        }
        Ok(Self {
            server,
            limit,
            run,
            is_in_cluster,
            control,
            reading,
            lanes: ArcSwap::default(),
            breaker,
            digests,
            probe,
            proof: OnceLock::new(),
        })
    }

    pub(crate) fn run(&self) -> Identity {
        self.run
    }

    /// Shows that the server takes writes: a replica, or a server without memory, can hold no fences. And that it was no
    /// replica meanwhile, for then it holds what another held. A lane whose connection is gone breaks the link, be it in
    /// use or not.
    pub(crate) async fn probe(&self) -> Result<(), RedisProblem> {
        for known in &**self.lanes.load() {
            known.lane.ping();
        }
        let mut control = self.control.clone();
        if let Some(key) = &self.probe {
            let mut fence = Cmd::new();
            fence.arg("EVAL").arg(scripts::FENCE).arg(1).arg(key);
            fence.arg(&[0_u8; 16][..]).arg(1000).arg("");
            let fenced: Result<(), _> = fence.query_async(&mut control).await;
            fenced.map_err(|error| self.problem(error))?;
        }
        let same = same(self.run, &mut control).await;
        same.map_err(|problem| self.problem(problem))
    }

    /// Looks for a proof; `None` if it is not there. It is put back where the server tells the same of its past as it did
    /// when the proof was `seen`, or written for the first time.
    pub(crate) async fn prove(&self, key: &[u8], holds: Identity, seen: Seen) -> Result<Option<Marks>, RedisProblem> {
        let mut prove = Cmd::new();
        prove.arg("EVAL").arg(scripts::PROVE).arg(1).arg(key);
        let lasts = u64::try_from(proof::LASTS.as_millis()).unwrap_or(u64::MAX);
        prove.arg(&holds.0).arg(lasts);
        match &seen {
            Seen::New => prove.arg("new"),
            Seen::With(marks) => prove.arg(marks),
            Seen::Never => prove.arg(""),
        };
        let answer = prove.query_async(&mut self.control.clone()).await;
        let answer = answer.map_err(|error| self.problem(error))?;
        Ok(bytes(answer).map(|marks| marks.to_vec()))
    }

    /// From now on every command asks for this proof.
    pub(crate) fn ask_for(&self, proof: Proof) {
        if !self.is_in_cluster {
            let _first = self.proof.set(Arc::new(proof));
        }
    }

    /// Returns once everything the server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> Result<(), RedisProblem> {
        let mut connection = self.reading.as_ref().unwrap_or(&self.control).clone();
        let ping = redis::cmd("PING");
        let pinged = timeout(self.limit, ping.query_async(&mut connection));
        let pinged = pinged.await.unwrap_or_else(|_| Err(timed_out()));
        pinged.map_err(|error| self.problem(error))
    }

    /// An error of this server's.
    fn problem(&self, error: impl Into<RedisProblem>) -> RedisProblem {
        error.into().at(self.server.url())
    }

    /// For what is asked of the server itself.
    pub(crate) fn control(&self) -> Connection {
        self.control.clone()
    }

    /// Reads a cell, together with what others on this runtime ask for.
    pub(crate) fn read(&self, cell: Name<'_>) -> oneshot::Receiver<Value> {
        self.with_lane(Via::Reading, |lane| lane.read(cell))
    }

    /// Changes cells, together with what others on this runtime ask for.
    pub(crate) fn call(&self, via: Via, calls: Calls) -> oneshot::Receiver<Changed> {
        self.with_lane(via, |lane| lane.call(calls))
    }

    /// Uses the lane of the current runtime.
    fn with_lane<T>(&self, via: Via, ask: impl FnOnce(&Lane) -> T) -> T {
        let via = match self.reading {
            Some(_) => via,
            None => Via::Own,
        };
        let runtime = Handle::current().id();
        let is_it = |known: &&Arc<RuntimesLane>| known.runtime == runtime && known.via == via;
        if let Some(known) = self.lanes.load().iter().find(is_it) {
            return ask(&known.lane);
        }
        let made = Arc::new(RuntimesLane {
            runtime,
            via,
            lane: Lane::new(),
        });
        self.lanes.rcu(|lanes| {
            let mut lanes: Vec<_> = lanes.iter().filter(|known| !known.lane.is_closed()).cloned().collect();
            if !lanes.iter().any(|known| is_it(&known)) {
                lanes.push(made.clone());
            }
            lanes
        });
        match self.lanes.load().iter().find(is_it) {
            Some(known) if !Arc::ptr_eq(known, &made) => ask(&known.lane),
            _ => {
                tokio::spawn(made.lane.serve(self.way(), self.open(via)));
                ask(&made.lane)
            }
        }
    }

    fn way(&self) -> Way {
        Way {
            server: self.server.url().clone(),
            is_in_cluster: self.is_in_cluster,
            timeout: self.limit,
            breaker: self.breaker.clone(),
            digests: self.digests.clone(),
            proof: self.proof.get().cloned(),
        }
    }

    /// A connection for a lane, driven by the runtime that awaits this.
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

/// A connection within the time that connecting may take.
async fn connecting(
    limit: Duration,
    opening: impl Future<Output = Result<Connection, RedisProblem>>,
) -> Result<Connection, RedisProblem> {
    let opened = timeout(limit.saturating_mul(CONNECTING), opening).await;
    opened.unwrap_or_else(|_| Err(timed_out().into()))
}

/// Refuses a connection that leads elsewhere.
async fn same(run: Identity, connection: &mut Connection) -> Result<(), RedisProblem> {
    let told = told(connection).await?;
    match told.run == run && told.is_primary {
        true => Ok(()),
        false => Err(RedisProblem::new(
            Cause::Other,
            "another server answers at its address now, or it has become a replica",
        )),
    }
}
