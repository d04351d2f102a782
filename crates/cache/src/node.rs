//! The connections to one run of one server. Invariant: all lead to the same run; one that would lead to another is not
//! used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{Pipeline, PushInfo, RedisResult, Value, aio::MultiplexedConnection};
use tokio::runtime::{self, Handle};

use crate::{
    command::{Call, Command, Digests},
    epoch::Identity,
    lane::Lane,
    reply::protocol,
    server::{Server, Told, told},
};

/// Which connection a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Any that is not for reading.
    Any,
    /// The one that is told of changes, if there is one.
    Reading,
}

pub(crate) struct Node {
    server: Server,
    timeout: Duration,
    run: Identity,
    is_in_cluster: bool,
    connections: Vec<MultiplexedConnection>,
    reading: Option<MultiplexedConnection>,
    /// Reads of each runtime, which share a connection there.
    lanes: ArcSwap<Vec<(runtime::Id, Arc<Lane>)>>,
    next: AtomicUsize,
    /// A key that the server serves, if any does that begins as it must.
    probe: Option<Vec<u8>>,
}

impl Node {
    /// Connects. With `listener`, one connection is told of changes to what was read through it.
    pub(crate) async fn connect<T>(
        server: Server,
        connections: usize,
        timeout: Duration,
        listener: Option<T>,
        probe: Option<Vec<u8>>,
    ) -> RedisResult<Self>
    where
        T: Fn(PushInfo) + Send + Sync + 'static,
    {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(server.open(timeout).await?);
        }
        let reading = match listener {
            None => None,
            Some(listener) => Some(server.open_tracked(timeout, listener).await?),
        };
        let mut runs = Vec::new();
        for connection in open.iter_mut().chain(reading.clone().as_mut()) {
            runs.push(told(connection).await?);
        }
        let [Told { run, is_in_cluster }, others @ ..] = &runs[..] else {
            return Err(protocol("there is no connection"));
        };
        if others.iter().any(|other| other.run != *run) {
            return Err(protocol("the connections lead to different servers"));
        }
        let mut load = redis::pipe();
        for source in Command::SOURCES {
            load.cmd("SCRIPT").arg("LOAD").arg(source).ignore();
        }
        let () = load.query_async(&mut open[0]).await?;
        Ok(Self {
            run: *run,
            is_in_cluster: *is_in_cluster,
            server,
            timeout,
            connections: open,
            reading,
            lanes: ArcSwap::default(),
            next: AtomicUsize::new(0),
            probe,
        })
    }

    pub(crate) fn run(&self) -> Identity {
        self.run
    }

    /// Shows that every connection answers and that the server takes writes: a replica, or a server without memory,
    /// can hold no fences.
    pub(crate) async fn probe(&self, digests: &Digests) -> RedisResult<()> {
        for connection in &self.connections[1..] {
            let () = redis::cmd("PING")
                .query_async(&mut connection.clone())
                .await?;
        }
        let mut first = self.connections[0].clone();
        match &self.probe {
            None => redis::cmd("PING").query_async(&mut first).await,
            Some(key) => {
                let arguments: [&[u8]; 2] = [&[0; 16], b"1000"];
                let call = Call { key, arguments };
                let answers = call_on(first, digests, Command::Fence, &[call]).await;
                answers.map(drop)
            }
        }
    }

    /// Returns once everything the server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> RedisResult<()> {
        let mut connection = self.connection(Via::Reading);
        redis::cmd("PING").query_async(&mut connection).await
    }

    /// Gives a command for each of these keys and returns the answers in order.
    pub(crate) async fn call<const N: usize>(
        &self,
        via: Via,
        digests: &Digests,
        command: Command,
        calls: &[Call<'_, N>],
    ) -> RedisResult<Vec<Value>> {
        call_on(self.connection(via), digests, command, calls).await
    }

    /// The lane of the current runtime.
    pub(crate) fn lane(&self) -> Arc<Lane> {
        let runtime = Handle::current().id();
        let known = |lanes: &[(runtime::Id, Arc<Lane>)]| {
            let lane = lanes.iter().find(|(id, _)| *id == runtime)?;
            Some(lane.1.clone())
        };
        if let Some(lane) = known(&self.lanes.load()) {
            return lane;
        }
        let made = Arc::new(Lane::new(self.is_in_cluster));
        self.lanes.rcu(|lanes| match known(lanes) {
            Some(_) => lanes.to_vec(),
            None => [&lanes[..], &[(runtime, made.clone())]].concat(),
        });
        known(&self.lanes.load()).unwrap_or(made)
    }

    /// A connection for a lane, driven by the current runtime.
    pub(crate) async fn open(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(reading) = &self.reading {
            return Ok(reading.clone());
        }
        let mut connection = self.server.open(self.timeout).await?;
        if told(&mut connection).await?.run == self.run {
            Ok(connection)
        } else {
            Err(protocol("the server was replaced"))
        }
    }

    /// One of the connections, for what is asked of the server itself.
    pub(crate) fn connection(&self, via: Via) -> MultiplexedConnection {
        match &self.reading {
            Some(reading) if via == Via::Reading => reading.clone(),
            _ => {
                let next = self.next.fetch_add(1, Relaxed);
                self.connections[next % self.connections.len()].clone()
            }
        }
    }
}

/// A call that did not find its script had no effect, so it is made again.
async fn call_on<const N: usize>(
    mut connection: MultiplexedConnection,
    digests: &Digests,
    command: Command,
    calls: &[Call<'_, N>],
) -> RedisResult<Vec<Value>> {
    let mut answers = query(digests.pipeline(command, calls), &mut connection).await?;
    if answers.iter().any(is_no_script) {
        let () = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(command.source())
            .query_async(&mut connection)
            .await?;
        for (call, answer) in calls.iter().zip(&mut answers) {
            if is_no_script(answer) {
                let again = digests.pipeline(command, std::slice::from_ref(call));
                let again = query(again, &mut connection).await?;
                *answer = again
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| Err(protocol("an answer is missing")));
            }
        }
    }
    answers.into_iter().collect()
}

/// One answer for each command.
async fn query(
    mut commands: Pipeline,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let expected = commands.len();
    let answers: Vec<RedisResult<Value>> = commands.ignore_errors().query_async(connection).await?;
    if answers.len() == expected {
        Ok(answers)
    } else {
        Err(protocol("an answer is missing"))
    }
}

fn is_no_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.code() == Some("NOSCRIPT"))
}
