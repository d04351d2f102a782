//! The way of one runtime to one server. What is asked there while an answer is awaited gathers, and then goes at once:
//! reads in one command, and changes of a kind in one. Invariant: whoever waits is answered, or learns that nobody will
//! answer.
//!
//! A lone question is sent at once. The more there are, the more each round trip carries.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{RedisResult, Value};
use tokio::{
    sync::{Notify, oneshot},
    task::yield_now,
    time::{Instant, Sleep, sleep},
};

use crate::{
    breaker::Breaker,
    clock,
    command::{Batch, Calls, Digests},
    connection::Connection,
    problem::RedisProblem,
    proof::Proof,
    redis_url::RedisUrl,
    reply::timed_out,
    words::{Name, Words},
};

/// Puts questions in. Its [service](Self::serve) ends after it is dropped.
pub(crate) struct Lane(Arc<Queue>);

struct Queue {
    /// Locked to put a question in or to take all out, never across an await.
    gathered: Mutex<Gathered>,
    filled: Notify,
}

#[derive(Default)]
struct Gathered {
    /// The cells to be read, and who asks for each.
    cells: Words,
    readers: Vec<oneshot::Sender<Value>>,
    changes: Vec<Change>,
    /// Whether the server is to show that it is there.
    wants_ping: bool,
    /// Nobody takes anything out any more.
    is_closed: bool,
}

struct Change {
    calls: Calls,
    answer: oneshot::Sender<Changed>,
}

/// The answers for each cell; `None` if the keyspace was not proven to be the trusted one.
pub(crate) type Changed = Option<Vec<Value>>;

/// How a lane's service reaches the server.
pub(crate) struct Way {
    /// To be named when it fails.
    pub(crate) server: RedisUrl,
    pub(crate) is_in_cluster: bool,
    /// After what time without an answer the server counts as lost.
    pub(crate) timeout: Duration,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) digests: Arc<Digests>,
    /// What every command must find.
    pub(crate) proof: Option<Arc<Proof>>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Queue {
            gathered: Mutex::default(),
            filled: Notify::new(),
        }))
    }

    /// Reads a cell. Without the proof, nothing is found.
    pub(crate) fn read(&self, cell: Name<'_>) -> oneshot::Receiver<Value> {
        let (answer, answered) = oneshot::channel();
        self.put(|gathered| {
            gathered.cells.push_name(cell);
            gathered.readers.push(answer);
        });
        answered
    }

    /// Changes cells. Answers for each.
    pub(crate) fn call(&self, calls: Calls) -> oneshot::Receiver<Changed> {
        let (answer, answered) = oneshot::channel();
        self.put(|gathered| gathered.changes.push(Change { calls, answer }));
        answered
    }

    /// Has the server show that it is there.
    pub(crate) fn ping(&self) {
        self.put(|gathered| gathered.wants_ping = true);
    }

    /// Whether what is put in now goes nowhere.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.gathered().is_closed
    }

    fn put(&self, question: impl FnOnce(&mut Gathered)) {
        let mut gathered = self.0.gathered();
        if gathered.is_closed {
            // Whoever waits for the answer learns of it when its other end is dropped with the question.
            return;
        }
        let is_first = gathered.is_empty();
        question(&mut gathered);
        drop(gathered);
        if is_first {
            self.0.filled.notify_one();
        }
    }

    /// The service: sends what gathers over the connection that is opened for it. To be run on the lane's runtime.
    pub(crate) fn serve<F>(&self, way: Way, open: F) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = Result<Connection, RedisProblem>>,
    {
        let service = Service(self.0.clone());
        async move { service.run(&way, open).await }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.gathered().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Queue {
    /// What has gathered; `None` once the lane is gone.
    async fn next(&self) -> Option<Gathered> {
        loop {
            self.filled.notified().await;
            // Whoever is ready to ask does so first.
            yield_now().await;
            let mut gathered = self.gathered();
            if gathered.is_closed {
                return None;
            }
            if !gathered.is_empty() {
                return Some(gathered.take());
            }
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        // Nothing panics while it holds the lock.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.changes.is_empty() && !self.wants_ping
    }

    /// Takes all out, and leaves room.
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
}

/// Whoever sends what gathers. Dropped, it sends away those who wait.
struct Service(Arc<Queue>);

impl Service {
    async fn run(&self, way: &Way, open: impl Future<Output = Result<Connection, RedisProblem>>) {
        let mut connection = match open.await {
            Ok(connection) => connection,
            Err(problem) => return way.breaker.open_for(problem.at(&way.server)),
        };
        let patience = sleep(way.timeout);
        tokio::pin!(patience);
        while let Some(mut gathered) = self.0.next().await {
            let asking = gathered.ask(way, &mut connection);
            match within(way.timeout, patience.as_mut(), asking).await {
                Ok(values) => gathered.answer(values),
                Err(error) => {
                    // Those who wait find the link broken, and why, when they learn of it.
                    let problem = RedisProblem::from(error);
                    return way.breaker.open_for(problem.at(&way.server));
                }
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut gathered = self.0.gathered();
        gathered.is_closed = true;
        let gone = gathered.take();
        drop(gathered);
        drop(gone);
    }
}

impl Gathered {
    async fn ask(&mut self, way: &Way, connection: &mut Connection) -> RedisResult<Option<Vec<Value>>> {
        let mut batch = Batch::new(&way.digests, way.is_in_cluster, way.proof.as_deref());
        if self.cells.is_empty() && self.changes.is_empty() {
            let () = redis::cmd("PING").query_async(connection).await?;
            return Ok(None);
        }
        batch.read(&self.cells);
        let changes = &mut self.changes;
        changes.sort_by_key(|change| change.calls.command());
        for alike in changes.chunk_by(|one, next| one.calls.command() == next.calls.command()) {
            batch.call(alike.iter().map(|change| &change.calls));
        }
        batch.send(connection).await
    }

    /// Hands the answers to those who have asked, some of whom may be gone.
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

/// What a question comes to within this time. The timer is set again only when it rings: to do so for each question would
/// wake the runtime's driver each time.
async fn within<T>(
    timeout: Duration,
    mut timer: Pin<&mut Sleep>,
    asking: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let deadline = clock::after(Instant::now(), timeout);
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
