//! Sends the requests of one runtime to one server. Requests gather while an answer is awaited, and then go together: reads
//! in one command, and changes of a kind in one. A lone request goes at once. Invariant: every request is answered, or its
//! answer's channel is closed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cenote_metrics::AtomicHistogram;
use redis::{RedisResult, Value};
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
    time::{Instant, Sleep, sleep},
};

use crate::{
    clock,
    protocol::{
        arguments::{Arguments, CellKey},
        keyspace_proof::KeyspaceProof,
    },
    redis::{
        breaker::Breaker,
        command::{CellCalls, CellCommand, Digests, PipelineBuilder},
        connection::Connection,
        errors::timed_out,
        problem::RedisProblem,
    },
    url::RedisUrl,
};

/// Takes requests. The task that sends them, [`run`](Self::run), ends after this is dropped.
pub(crate) struct Worker(Arc<Queue>);

struct Queue {
    /// Locked to put a request in or to take all out, never across an await.
    pending: Mutex<Pending>,
    /// Wakes the task when the first request has come.
    filled: Notify,
}

/// A request to a worker.
pub(crate) enum Request<'a> {
    /// To read a cell. Where the proof is missing, the answer is nil.
    Read {
        cell: CellKey<'a>,
        answer: oneshot::Sender<Value>,
    },
    /// To change cells.
    Change {
        calls: CellCalls,
        answer: oneshot::Sender<Changed>,
    },
    /// To check that the server answers.
    Ping,
}

/// The answers for each cell; `None` if the keyspace was not proven to be the trusted one.
pub(crate) type Changed = Option<Vec<Value>>;

#[derive(Default)]
struct Pending {
    /// The cells to be read, and for each the channel of its answer.
    cells: Arguments,
    readers: Vec<oneshot::Sender<Value>>,
    changes: Vec<Change>,
    wants_ping: bool,
    /// The task has ended: requests are dropped.
    is_closed: bool,
}

struct Change {
    calls: CellCalls,
    answer: oneshot::Sender<Changed>,
}

/// How a worker reaches its server.
pub(crate) struct WorkerConfig {
    /// Named in the problem when it fails.
    pub(crate) server: RedisUrl,
    pub(crate) is_in_cluster: bool,
    /// A server that does not answer for this long counts as lost.
    pub(crate) timeout: Duration,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) digests: Arc<Digests>,
    /// What every command must find.
    pub(crate) proof: Option<Arc<KeyspaceProof>>,
    /// How long the server's answers take.
    pub(crate) times: Arc<AtomicHistogram>,
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Queue {
            pending: Mutex::default(),
            filled: Notify::new(),
        }))
    }

    /// Puts a request in. If the task has ended, the request is dropped, which closes the channel of its answer.
    pub(crate) fn submit(&self, request: Request<'_>) {
        let mut pending = self.0.lock();
        if pending.is_closed {
            return;
        }
        let is_first = pending.is_empty();
        match request {
            Request::Read { cell, answer } => {
                pending.cells.push_key(cell);
                pending.readers.push(answer);
            }
            Request::Change { calls, answer } => pending.changes.push(Change { calls, answer }),
            Request::Ping => pending.wants_ping = true,
        }
        drop(pending);
        // Only the first request wakes the task: it takes the others along.
        if is_first {
            self.0.filled.notify_one();
        }
    }

    /// Whether requests are dropped from now on.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    /// The worker's task: sends requests over the connection that `open` opens. To be run on the worker's runtime.
    pub(crate) fn run<F>(&self, config: WorkerConfig, open: F) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = Result<Connection, RedisProblem>>,
    {
        let task = Task(self.0.clone());
        async move { task.run(&config, open).await }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Queue {
    /// Waits for requests and takes them; `None` once the worker is dropped.
    async fn next(&self) -> Option<Pending> {
        loop {
            self.filled.notified().await;
            // Lets the tasks that are ready to run submit their requests first, so that one pipeline carries all.
            yield_now().await;
            let mut pending = self.lock();
            if pending.is_closed {
                return None;
            }
            if !pending.is_empty() {
                return Some(pending.take());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No code panics while it holds the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.changes.is_empty() && !self.wants_ping
    }

    /// Takes all requests out, and leaves room for as many.
    fn take(&mut self) -> Self {
        let readers = Vec::with_capacity(self.readers.len());
        Self {
            cells: self.cells.take(),
            readers: std::mem::replace(&mut self.readers, readers),
            changes: std::mem::take(&mut self.changes),
            wants_ping: std::mem::take(&mut self.wants_ping),
            is_closed: self.is_closed,
        }
    }

    /// Sends the requests. Returns the answers, first of the reads and then of the changes in their new order; `None` if
    /// the proof was missing.
    async fn send(&mut self, config: &WorkerConfig, connection: &mut Connection) -> RedisResult<Option<Vec<Value>>> {
        if self.cells.is_empty() && self.changes.is_empty() {
            let () = redis::cmd("PING").query_async(&mut connection.commands).await?;
            return Ok(None);
        }
        let mut pipeline = PipelineBuilder::new(&config.digests, config.is_in_cluster, config.proof.as_deref());
        let no_arguments = [].into_iter();
        pipeline.add(CellCommand::Get, self.cells.len(), self.cells.iter(), no_arguments);
        self.changes.sort_by_key(|change| change.calls.command());
        let is_alike = |one: &Change, next: &Change| one.calls.command() == next.calls.command();
        for alike in self.changes.chunk_by(is_alike) {
            pipeline.add_calls(alike.iter().map(|change| &change.calls));
        }
        pipeline.send(connection).await
    }

    /// Sends the answers to the callers that still wait.
    fn answer(self, values: Option<Vec<Value>>) {
        let Some(values) = values else {
            for reader in self.readers {
                let _gone = reader.send(Value::Nil);
            }
            for change in self.changes {
                let _gone = change.answer.send(None);
            }
            return;
        };
        let mut values = values.into_iter();
        for (reader, value) in self.readers.into_iter().zip(values.by_ref()) {
            let _gone = reader.send(value);
        }
        for change in self.changes {
            let values = values.by_ref().take(change.calls.len());
            let _gone = change.answer.send(Some(values.collect()));
        }
    }
}

/// The task of a worker. Its drop closes the channels of all requests that it has not answered.
struct Task(Arc<Queue>);

impl Task {
    async fn run(&self, config: &WorkerConfig, open: impl Future<Output = Result<Connection, RedisProblem>>) {
        let mut connection = match open.await {
            Ok(connection) => connection,
            Err(problem) => return config.breaker.open_for(problem.at(&config.server)),
        };
        let timer = sleep(config.timeout);
        tokio::pin!(timer);
        while let Some(mut requests) = self.0.next().await {
            let begun = Instant::now();
            let sending = requests.send(config, &mut connection);
            match within(config.timeout, begun, timer.as_mut(), sending).await {
                Ok(values) => {
                    config.times.record(begun.elapsed());
                    requests.answer(values);
                }
                Err(error) => {
                    // The breaker opens before the requests are dropped: their callers then find the session broken,
                    // and the reason for it.
                    let problem = RedisProblem::from(error);
                    return config.breaker.open_for(problem.at(&config.server));
                }
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.is_closed = true;
        let unanswered = pending.take();
        // Wakes callers, so not under the lock.
        drop(pending);
        drop(unanswered);
    }
}

/// The result of `asking`, or an error this time after it has begun. The timer is reset only when it fires: resetting it for each request
/// would wake the runtime's driver each time.
async fn within<T>(
    timeout: Duration,
    begun: Instant,
    mut timer: Pin<&mut Sleep>,
    asking: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let deadline = clock::after(begun, timeout);
    tokio::pin!(asking);
    loop {
        tokio::select! {
            biased;
            answer = &mut asking => return answer,
            () = timer.as_mut() => {
                if Instant::now() >= deadline {
                    return Err(timed_out());
                }
                timer.as_mut().reset(deadline);
            }
        }
    }
}
