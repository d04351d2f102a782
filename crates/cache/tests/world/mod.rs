//! A database in memory that is slow or fails on demand, and the helpers that the tests of the cache share. Invariant: the
//! versions and the epoch of the database obey the rules that [`Origin`] states.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use cenote_cache::{
    Cache, Config, EpochRow, Mode, Nonce, Origin, Read, RedisConfig, Source, State, Timing, Trust, Value,
};
use cenote_testing::RedisServer;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("the database is down")]
pub(crate) struct Down;

/// The database; clones are the same one.
#[derive(Clone)]
pub(crate) struct Database(Arc<Inner>);

struct Inner {
    rows: Mutex<HashMap<String, (i64, Option<Bytes>)>>,
    epoch: Arc<Mutex<EpochRow>>,
    loads: AtomicUsize,
    loaded_keys: AtomicUsize,
    /// The longest time between a load's look at the rows and its answer, in microseconds.
    delay: AtomicU64,
    is_down: AtomicBool,
    /// Loads answer only with a permit, once this is switched on.
    is_gated: AtomicBool,
    gate: Semaphore,
    /// Loads that have seen the rows and stand at the gate.
    at_gate: AtomicUsize,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self::with_row(EpochRow {
            epoch: 1,
            trust: Trust::Nothing,
            is_first: false,
        })
    }

    /// A database whose epoch is undecided.
    pub(crate) fn fresh() -> Self {
        Self::with_row(EpochRow {
            epoch: 1,
            trust: Trust::Undecided,
            is_first: false,
        })
    }

    fn with_row(row: EpochRow) -> Self {
        Self(Arc::new(Inner {
            rows: Mutex::default(),
            epoch: Arc::new(Mutex::new(row)),
            loads: AtomicUsize::new(0),
            loaded_keys: AtomicUsize::new(0),
            delay: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            is_gated: AtomicBool::new(false),
            gate: Semaphore::new(0),
            at_gate: AtomicUsize::new(0),
        }))
    }

    /// Another table of the same database: with the epoch of that one, and these rows.
    pub(crate) fn with_epoch_of(&self, other: &Self) -> Self {
        let mut table = Self::with_row(other.row());
        let inner = Arc::get_mut(&mut table.0).unwrap();
        inner.rows = Mutex::new(self.0.rows.lock().unwrap().clone());
        inner.epoch = other.0.epoch.clone();
        table
    }

    /// Commits a value, and returns its version.
    pub(crate) fn commit(&self, key: &str, value: &str) -> i64 {
        self.put(key, Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    pub(crate) fn delete(&self, key: &str) -> i64 {
        self.put(key, None)
    }

    fn put(&self, key: &str, value: Option<Bytes>) -> i64 {
        let mut rows = self.0.rows.lock().unwrap();
        let row = rows.entry(key.to_owned()).or_default();
        *row = (row.0 + 1, value);
        let version = row.0;
        drop(rows);
        version
    }

    pub(crate) fn loads(&self) -> usize {
        self.0.loads.load(SeqCst)
    }

    pub(crate) fn loaded_keys(&self) -> usize {
        self.0.loaded_keys.load(SeqCst)
    }

    pub(crate) fn delay(&self, delay: Duration) {
        self.0.delay.store(delay.as_micros() as u64, SeqCst);
    }

    pub(crate) fn fail(&self, is_down: bool) {
        self.0.is_down.store(is_down, SeqCst);
    }

    /// From now on loads see the rows and then wait for [`open_gate`](Self::open_gate).
    pub(crate) fn close_gate(&self) {
        self.0.is_gated.store(true, SeqCst);
    }

    /// Waits until this number of loads have seen the rows and stand at the gate.
    pub(crate) async fn at_gate(&self, loads: usize) {
        until("loads stand at the gate", || self.0.at_gate.load(SeqCst) == loads).await;
    }

    /// Loads that stand at the gate stay there; later ones pass.
    pub(crate) fn leave_gate(&self) {
        self.0.is_gated.store(false, SeqCst);
    }

    pub(crate) fn open_gate(&self) {
        self.leave_gate();
        self.0.gate.add_permits(1_000);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.row().epoch
    }

    pub(crate) fn row(&self) -> EpochRow {
        *self.0.epoch.lock().unwrap()
    }

    /// The nonce of the trusted keyspace.
    pub(crate) fn keyspace(&self) -> Nonce {
        self.row().keyspace().unwrap()
    }

    /// The key in Redis of a cell of the caches that [`config`] is for.
    pub(crate) fn cell(&self, key: &str) -> String {
        let nonce = self.keyspace().0;
        let digits: String = nonce[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("cenote:{NAME}:{digits}:{key}")
    }

    /// The key of the keyspace proof in Redis.
    pub(crate) fn proof(&self) -> String {
        let nonce = self.keyspace().0;
        let digits: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("cenote::proof:{}:{digits}", self.epoch())
    }
}

impl Origin for Database {
    type Error = Down;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Down> {
        self.0.loads.fetch_add(1, SeqCst);
        self.0.loaded_keys.fetch_add(keys.len(), SeqCst);
        let found = {
            let rows = self.0.rows.lock().unwrap();
            let value = |key: &&str| {
                let (version, bytes) = rows.get(*key)?.clone();
                Some(Value::new(version, bytes?))
            };
            keys.iter().map(value).collect()
        };
        let delay = self.0.delay.load(SeqCst);
        if delay > 0 {
            sleep(Duration::from_micros(fastrand::u64(..delay))).await;
        }
        if self.0.is_gated.load(SeqCst) {
            self.0.at_gate.fetch_add(1, SeqCst);
            self.0.gate.acquire().await.unwrap().forget();
            self.0.at_gate.fetch_sub(1, SeqCst);
        }
        if self.0.is_down.load(SeqCst) {
            return Err(Down);
        }
        Ok(found)
    }

    async fn epoch_row(&self) -> Result<EpochRow, Down> {
        if self.0.is_down.load(SeqCst) {
            return Err(Down);
        }
        Ok(*self.0.epoch.lock().unwrap())
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), Down> {
        if self.0.is_down.load(SeqCst) {
            return Err(Down);
        }
        let mut epoch = self.0.epoch.lock().unwrap();
        let may_pass_over = matches!(successor.trust, Trust::Nothing);
        if epoch.epoch + 1 == successor.epoch || may_pass_over && epoch.epoch < successor.epoch {
            *epoch = successor;
        }
        drop(epoch);
        Ok(())
    }
}

/// The name of the tests' caches.
pub(crate) const NAME: &str = "test";

/// Shorter than the product's, so that the tests are shorter too.
pub(crate) const LEASE: Duration = Duration::from_millis(800);
pub(crate) const DEADLINE: Duration = Duration::from_millis(300);
pub(crate) const FENCE: Duration = Duration::from_millis(1_000);

pub(crate) fn config(mode: Mode) -> Config {
    let mut config = Config::new(NAME, mode);
    config.timing = Timing::new(LEASE, DEADLINE, FENCE).unwrap();
    config
}

pub(crate) fn cache(database: &Database, mode: Mode) -> Cache<Database> {
    Cache::new(database.clone(), config(mode)).unwrap()
}

pub(crate) async fn redis() -> RedisServer {
    RedisServer::temporary().start().await.unwrap()
}

pub(crate) fn strong(server: &RedisServer) -> Mode {
    Mode::Strong(RedisConfig::from_url(&server.url()).unwrap())
}

pub(crate) fn bounded(server: &RedisServer, max_staleness: Duration) -> Mode {
    Mode::Bounded {
        redis: RedisConfig::from_url(&server.url()).unwrap(),
        max_staleness,
    }
}

/// Waits until the cache is used.
pub(crate) async fn ready(cache: &Cache<Database>) {
    until("the cache is used", || cache.stats().state == State::Ok).await;
}

/// A cache that is used already.
pub(crate) async fn ready_cache(database: &Database, mode: Mode) -> Cache<Database> {
    let cache = cache(database, mode);
    ready(&cache).await;
    cache
}

/// Writes as a service does: fence, commit, release.
pub(crate) async fn write(cache: &Cache<Database>, database: &Database, key: &str, value: &str) -> i64 {
    loop {
        let fenced = cache.fence(&[key]).await.unwrap();
        if fenced.fits(DEADLINE) {
            let version = database.commit(key, value);
            let coherence = fenced.release().await;
            assert_eq!(coherence, cenote_cache::Coherence::Settled);
            return version;
        }
    }
}

/// The version and the source of a read.
pub(crate) async fn read(cache: &Cache<Database>, key: &str) -> (Option<i64>, Source) {
    let Read { value, source, .. } = cache.read(key).await.unwrap();
    (value.map(|value| value.version), source)
}

/// How often a server has run a command, as `INFO commandstats` tells.
pub(crate) async fn calls(server: &RedisServer, command: &str) -> u64 {
    let told = server.command(&["INFO", "commandstats"]).await.unwrap();
    let name = format!("cmdstat_{command}:");
    let line = told.lines().find(|line| line.starts_with(&name));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok());
    calls.unwrap_or(0)
}

/// Waits until a server has run a command this many times more.
pub(crate) async fn after_calls(server: &RedisServer, command: &str, times: u64) {
    let before = calls(server, command).await;
    let deadline = Instant::now() + PATIENCE;
    while calls(server, command).await < before + times {
        assert!(Instant::now() < deadline, "{command} was not run {times} times");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Returns once every read that was spawned before on this runtime, which must have one thread, has heard from Redis and has
/// gone on as far as it can. `cached` is a key that Redis has. Redis answers a runtime's requests in their order: the first
/// read goes out with those before it, and the second after their answers were handed out.
pub(crate) async fn reads_before_this(cache: &Cache<Database>, cached: &str) {
    for _ in 0..2 {
        assert_eq!(read(cache, cached).await.1, Source::Redis);
    }
}

/// Long even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds; fails after a time that is long even on a busy machine.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
