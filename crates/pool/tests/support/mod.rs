//! A connection that is a number, and a manager that does what a test tells it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_pool::{AcquireError, Condition, Config, Manager, Phase, Pool, Reason};
use tokio::{sync::Semaphore, task::JoinHandle};

/// Why a server refuses for good.
pub const WRONG_PASSWORD: &str = "wrong password";

/// Connections are numbered in the order in which they were opened.
#[derive(Debug)]
pub struct Connection {
    pub number: u32,
    pub condition: Condition,
    open: Arc<AtomicU32>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// The far side: what is to happen, and what has happened.
#[derive(Debug)]
pub struct Server {
    pub opened: AtomicU32,
    /// Connections that exist right now, and the most that ever did.
    pub open: Arc<AtomicU32>,
    pub peak: AtomicU32,
    pub refuses: AtomicBool,
    /// What it refuses with is permanent.
    pub for_good: AtomicBool,
    /// Connects that were begun, whatever came of them.
    pub tries: AtomicU32,
    /// Connections with a lower number are broken.
    pub broken_below: AtomicU32,
    pub check_fails: AtomicBool,
    pub inspect_panics: AtomicBool,
    pub checks: AtomicU32,
    pub cleans: AtomicU32,
    pub clean_fails: AtomicBool,
    /// Each takes a permit before it goes on; a closed gate has none.
    pub connect_gate: Semaphore,
    pub check_gate: Semaphore,
    pub clean_gate: Semaphore,
    pub close_gate: Semaphore,
}

/// As many permits as anyone could need: the gate stands open.
pub const OPEN: usize = Semaphore::MAX_PERMITS / 2;

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
    pub fn shut_gate(gate: &Semaphore) {
        gate.forget_permits(usize::MAX);
    }

    async fn pass(gate: &Semaphore) {
        gate.acquire().await.unwrap().forget();
    }
}

#[derive(Clone)]
pub struct Scripted(pub Arc<Server>);

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
        assert!(!self.0.inspect_panics.load(SeqCst), "told to");
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

pub fn pool(config: Config) -> (Pool<Scripted>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let pool = Pool::new(Scripted(server.clone()), config).unwrap();
    (pool, server)
}

/// A small pool without housekeeping by time.
pub fn small(max_size: u32) -> Config {
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

/// Lets every other task run until nothing more can happen without time passing.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A caller that asks for a connection and gives it back as soon as it has it.
pub fn in_line(pool: &Pool<Scripted>) -> JoinHandle<Result<(), AcquireError<Refused>>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.get_owned().await.map(drop) })
}

/// The time ran out while nothing could be opened, and the error says why.
#[track_caller]
pub fn timed_out_connecting(error: &AcquireError<Refused>) {
    let connecting = Phase::Connecting;
    assert!(
        matches!(error.reason(), Reason::Timeout { phase, .. } if phase == connecting),
        "{error}"
    );
    assert!(error.to_string().contains("the server is down"), "{error}");
}
