//! Reads of one runtime at one server go together: while some are at the server, others gather, and then go as one
//! command. Invariant: whoever waits is answered, or learns that nobody will answer.
//!
//! A lone read is sent at once. The more reads there are, the more each round trip carries.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use tokio::sync::{OnceCell, oneshot};

use crate::reply::protocol;

pub(crate) struct Lane {
    /// Of a cluster's server the keys of one command would have to share a slot, so each has a command of its own.
    is_in_cluster: bool,
    /// Locked to put a read in or to take all out, never across an await.
    queue: Mutex<Queue>,
    connection: OnceCell<MultiplexedConnection>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Somebody takes what waits.
    is_served: bool,
}

struct Waiting {
    cell: Vec<u8>,
    answer: oneshot::Sender<Value>,
}

/// Whoever sends what waits, until nothing does. Dropped before, it sends away those who wait.
pub(crate) struct Service<'a> {
    lane: &'a Lane,
    is_over: bool,
}

impl Lane {
    pub(crate) fn new(is_in_cluster: bool) -> Self {
        Self {
            is_in_cluster,
            queue: Mutex::default(),
            connection: OnceCell::new(),
        }
    }

    /// Puts a read of a cell in. `true` if the caller has to have the lane [served](Self::serve).
    pub(crate) fn enter(&self, cell: Vec<u8>) -> (oneshot::Receiver<Value>, bool) {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue();
        queue.waiting.push(Waiting { cell, answer });
        let is_first = !std::mem::replace(&mut queue.is_served, true);
        (answered, is_first)
    }

    pub(crate) fn serve(&self) -> Service<'_> {
        Service {
            lane: self,
            is_over: false,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<'_> {
    /// Sends what waits, and what comes meanwhile, until nothing does.
    pub(crate) async fn run<F>(mut self, connect: impl Fn() -> F) -> RedisResult<()>
    where
        F: Future<Output = RedisResult<MultiplexedConnection>>,
    {
        let connection = self.lane.connection.get_or_try_init(connect).await?;
        loop {
            // Whoever is ready to read enters first.
            tokio::task::yield_now().await;
            let batch = {
                let mut queue = self.lane.queue();
                if queue.waiting.is_empty() {
                    // Under the lock: what comes next has a service of its own.
                    queue.is_served = false;
                    self.is_over = true;
                    return Ok(());
                }
                let next = Vec::with_capacity(queue.waiting.len());
                std::mem::replace(&mut queue.waiting, next)
            };
            let values = self.ask(connection, &batch).await?;
            for (waiting, value) in batch.into_iter().zip(values) {
                let _gone = waiting.answer.send(value);
            }
        }
    }

    async fn ask(
        &self,
        connection: &MultiplexedConnection,
        batch: &[Waiting],
    ) -> RedisResult<Vec<Value>> {
        let mut connection = connection.clone();
        let values: Vec<Value> = match batch {
            [one] => {
                let command = get(&one.cell);
                vec![command.query_async(&mut connection).await?]
            }
            many if self.lane.is_in_cluster => {
                let mut pipeline = Pipeline::with_capacity(many.len());
                for waiting in many {
                    pipeline.add_command(get(&waiting.cell));
                }
                pipeline.query_async(&mut connection).await?
            }
            many => {
                let bytes = many.iter().map(|waiting| waiting.cell.len()).sum();
                let mut command = Cmd::with_capacity(many.len() + 1, bytes);
                command.arg("MGET");
                for waiting in many {
                    command.arg(&waiting.cell);
                }
                command.query_async(&mut connection).await?
            }
        };
        if values.len() == batch.len() {
            Ok(values)
        } else {
            Err(protocol("an answer is missing"))
        }
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.lane.queue();
            queue.is_served = false;
            let gone = std::mem::take(&mut queue.waiting);
            drop(queue);
            drop(gone);
        }
    }
}

fn get(cell: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, cell.len() + 3);
    command.arg("GET").arg(cell);
    command
}
