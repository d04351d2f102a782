//! A scripted server: its connections are numbers, and it does what a test tells it.

pub(crate) mod log;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_pool::{AcquireError, Condition, Config, Manager, Phase, Pool, Reason};
use tokio::{sync::Semaphore, task::JoinHandle};

/// The permanent failure of a server.
pub(crate) const WRONG_PASSWORD: &str = "wrong password";

/// Connections are numbered in the order in which they were opened.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u32,
    pub(crate) condition: Condition,
    open: Arc<AtomicU32>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) &'static str);

/// The server: what it is to do, and what it has done.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) opened: AtomicU32,
    /// Connections that exist right now, and the most that ever did.
    pub(crate) open: Arc<AtomicU32>,
    pub(crate) peak: AtomicU32,
    pub(crate) refuses: AtomicBool,
    /// What it refuses with is permanent.
    pub(crate) for_good: AtomicBool,
    /// Connects that were begun.
    pub(crate) tries: AtomicU32,
    /// Connections with a lower number are broken.
    pub(crate) broken_below: AtomicU32,
    pub(crate) check_fails: AtomicBool,
    pub(crate) inspect_panics: AtomicBool,
    pub(crate) checks: AtomicU32,
    pub(crate) cleans: AtomicU32,
    pub(crate) clean_fails: AtomicBool,
    /// Each call takes a permit before it goes on. A shut gate has none.
    pub(crate) connect_gate: Semaphore,
    pub(crate) check_gate: Semaphore,
    pub(crate) clean_gate: Semaphore,
    pub(crate) close_gate: Semaphore,
}

/// Enough permits for any test: the gate is open.
const OPEN: usize = Semaphore::MAX_PERMITS / 2;

impl Default for Server {
    fn default() -> Self {
        Self {
            opened: AtomicU32::new(0),
            open: Arc::new(AtomicU32::new(0)),
            peak: AtomicU32::new(0),
            refuses: AtomicBool::new(false),
            for_good: AtomicBool::new(false),
            tries: AtomicU32::new(0),
            broken_below: AtomicU32::new(0),
            check_fails: AtomicBool::new(false),
            inspect_panics: AtomicBool::new(false),
            checks: AtomicU32::new(0),
            cleans: AtomicU32::new(0),
            clean_fails: AtomicBool::new(false),
            connect_gate: Semaphore::new(OPEN),
            check_gate: Semaphore::new(OPEN),
            clean_gate: Semaphore::new(OPEN),
            close_gate: Semaphore::new(OPEN),
        }
    }
}

impl Server {
    pub(crate) fn shut_gate(gate: &Semaphore) {
        gate.forget_permits(usize::MAX);
    }

    pub(crate) fn open_gate(gate: &Semaphore) {
        gate.add_permits(OPEN);
    }

    async fn pass(gate: &Semaphore) {
        gate.acquire().await.unwrap().forget();
    }
}

#[derive(Clone)]
pub(crate) struct Scripted(pub(crate) Arc<Server>);

impl Manager for Scripted {
    type Connection = Connection;
    type Error = Refused;

    async fn connect(&self) -> Result<Connection, Refused> {
        self.0.tries.fetch_add(1, SeqCst);
        Server::pass(&self.0.connect_gate).await;
        if self.0.refuses.load(SeqCst) {
            return Err(Refused(match self.0.for_good.load(SeqCst) {
                true => WRONG_PASSWORD,
                false => "the server is down",
            }));
        }
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(open, SeqCst);
        Ok(Connection {
            number: self.0.opened.fetch_add(1, SeqCst),
            condition: Condition::Clean,
            open: self.0.open.clone(),
        })
    }

    fn is_permanent(&self, error: &Refused) -> bool {
        error.0 == WRONG_PASSWORD
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        assert!(!self.0.inspect_panics.load(SeqCst), "the test tells inspect to panic");
        match connection.number < self.0.broken_below.load(SeqCst) {
            true => Condition::Broken,
            false => connection.condition,
        }
    }

    async fn clean(&self, connection: &mut Connection) -> Result<(), Refused> {
        self.0.cleans.fetch_add(1, SeqCst);
        Server::pass(&self.0.clean_gate).await;
        if self.0.clean_fails.load(SeqCst) {
            return Err(Refused("cannot be cleaned"));
        }
        connection.condition = Condition::Clean;
        Ok(())
    }

    async fn check(&self, _: &mut Connection) -> Result<(), Refused> {
        self.0.checks.fetch_add(1, SeqCst);
        Server::pass(&self.0.check_gate).await;
        match self.0.check_fails.load(SeqCst) {
            true => Err(Refused("gone")),
            false => Ok(()),
        }
    }

    async fn close(&self, connection: Connection) {
        Server::pass(&self.0.close_gate).await;
        drop(connection);
    }
}

pub(crate) fn pool(config: Config) -> (Pool<Scripted>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let pool = Pool::new(Scripted(server.clone()), config).unwrap();
    (pool, server)
}

/// A small pool without housekeeping by time.
pub(crate) fn small(max_size: u32) -> Config {
    Config {
        min_size: Some(0),
        max_size,
        max_lifetime: None,
        idle_timeout: None,
        check_after: None,
        acquire_timeout: Duration::from_secs(10),
        ..Config::default()
    }
}

/// Lets all other tasks run until nothing more can happen before time passes.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Uses the pool in a task.
pub(crate) fn in_background<M: Manager, F: Future<Output: Send> + Send + 'static>(
    pool: &Pool<M>,
    act: impl FnOnce(Pool<M>) -> F,
) -> JoinHandle<F::Output> {
    tokio::spawn(act(pool.clone()))
}

/// A caller that waits for a connection and releases it at once.
pub(crate) fn queue_up(pool: &Pool<Scripted>) -> JoinHandle<Result<(), AcquireError<Refused>>> {
    in_background(pool, |pool| async move { pool.get_owned().await.map(drop) })
}

/// Asserts that the time ran out while connecting, and that the error says why.
#[track_caller]
pub(crate) fn timed_out_connecting(error: &AcquireError<Refused>) {
    let connecting = Phase::Connecting;
    assert!(
        matches!(error.reason(), Reason::Timeout { phase, .. } if phase == connecting),
        "{error}"
    );
    assert!(error.to_string().contains("the server is down"), "{error}");
}
