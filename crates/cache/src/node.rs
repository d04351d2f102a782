//! The connections to one run of one server. Invariant: all lead to the same run; one that would lead to another is not
//! used.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use redis::{Cmd, PushInfo, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::timeout,
};

use crate::{
    breaker::Breaker,
    command::{Calls, Digests, load_scripts},
    epoch::Identity,
    lane::{Lane, Way},
    reply::{protocol, timed_out},
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

pub(crate) struct Node {
    server: Server,
    /// After what time without an answer the server counts as lost.
    limit: Duration,
    run: Identity,
    is_in_cluster: bool,
    /// For what is asked of the server itself.
    control: MultiplexedConnection,
    reading: Option<MultiplexedConnection>,
    lanes: ArcSwap<Vec<Arc<RuntimesLane>>>,
    breaker: Arc<Breaker>,
    digests: Arc<Digests>,
    /// A key that the server serves, if any does that begins as it must.
    probe: Option<Vec<u8>>,
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
    ) -> RedisResult<Self>
    where
        T: Fn(PushInfo) + Send + Sync + 'static,
    {
        let mut control = server.open(limit).await?;
        let Told { run, is_in_cluster } = told(&mut control).await?;
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
        load_scripts(&mut control).await?;
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
        })
    }

    pub(crate) fn run(&self) -> Identity {
        self.run
    }

    /// Shows that the server takes writes: a replica, or a server without memory, can hold no fences. A lane whose
    /// connection is gone breaks the link, be it in use or not.
    pub(crate) async fn probe(&self) -> RedisResult<()> {
        for known in &**self.lanes.load() {
            known.lane.ping();
        }
        let mut control = self.control.clone();
        match &self.probe {
            None => redis::cmd("PING").query_async(&mut control).await,
            Some(key) => {
                let mut fence = Cmd::new();
                fence.arg("EVAL").arg(scripts::FENCE).arg(1).arg(key);
                fence.arg(&[0_u8; 16][..]).arg(1000);
                fence.query_async(&mut control).await
            }
        }
    }

    /// Returns once everything the server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> RedisResult<()> {
        let mut connection = self.reading.as_ref().unwrap_or(&self.control).clone();
        let ping = redis::cmd("PING");
        let pinged = timeout(self.limit, ping.query_async(&mut connection));
        pinged.await.map_err(|_| timed_out())?
    }

    /// For what is asked of the server itself.
    pub(crate) fn control(&self) -> MultiplexedConnection {
        self.control.clone()
    }

    /// Reads a cell, together with what others on this runtime ask for.
    pub(crate) fn read(&self, cell: Name<'_>) -> oneshot::Receiver<Value> {
        self.with_lane(Via::Reading, |lane| lane.read(cell))
    }

    /// Changes cells, together with what others on this runtime ask for.
    pub(crate) fn call(&self, via: Via, calls: Calls) -> oneshot::Receiver<Vec<Value>> {
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
            let mut lanes: Vec<_> = lanes
                .iter()
                .filter(|known| !known.lane.is_closed())
                .cloned()
                .collect();
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
            is_in_cluster: self.is_in_cluster,
            timeout: self.limit,
            breaker: self.breaker.clone(),
            digests: self.digests.clone(),
        }
    }

    /// A connection for a lane, driven by the runtime that awaits this.
    fn open(&self, via: Via) -> impl Future<Output = RedisResult<MultiplexedConnection>> + use<> {
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
    opening: impl Future<Output = RedisResult<MultiplexedConnection>>,
) -> RedisResult<MultiplexedConnection> {
    let opened = timeout(limit * CONNECTING, opening).await;
    opened.map_err(|_| timed_out())?
}

/// Refuses a connection that leads elsewhere.
async fn same(run: Identity, connection: &mut MultiplexedConnection) -> RedisResult<()> {
    if told(connection).await?.run == run {
        Ok(())
    } else {
        Err(protocol("the server was replaced"))
    }
}
