//! A database whose row of the epoch cannot be read: a cache without its table.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_cache::{Cache, EpochRow, Obstacle, Origin, State, Trust, Value};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;
use world::{config, redis, strong, until};

#[derive(Debug, Clone, thiserror::Error)]
#[error("relation \"cache_epoch\" does not exist")]
struct NoTable;

/// A database without values, whose table is missing at first.
#[derive(Clone, Default)]
struct Tableless {
    has_table: Arc<AtomicBool>,
    row: Arc<Mutex<Option<EpochRow>>>,
}

impl Origin for Tableless {
    type Error = NoTable;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, NoTable> {
        Ok(keys.iter().map(|_| None).collect())
    }

    async fn epoch_row(&self) -> Result<EpochRow, NoTable> {
        let first = EpochRow {
            epoch: 1,
            trust: Trust::Nothing,
            is_first: false,
        };
        match self.has_table.load(SeqCst) {
            true => Ok(*self.row.lock().unwrap().get_or_insert(first)),
            false => Err(NoTable),
        }
    }

    fn is_permanent(&self, _: &NoTable) -> bool {
        true
    }

    async fn advance(&self, successor: EpochRow) -> Result<(), NoTable> {
        *self.row.lock().unwrap() = Some(successor);
        Ok(())
    }
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self, words: &str) -> usize {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_missing_table_is_warned_of_once_with_the_databases_error_and_refuses_writes_without_waiting() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (server, database) = (redis().await, Tableless::default());
    let mut config = config(strong(&server));
    config.write_patience = Duration::from_secs(60);
    let cache = Cache::new(database.clone(), config).unwrap();

    let asked = Instant::now();
    for _ in 0..2 {
        let refused = cache.fence(&["key"]).await.unwrap_err();
        let Obstacle::UnreadableEpoch(why) = &refused.reason else {
            panic!("{refused}");
        };
        assert!(why.contains("\"cache_epoch\" does not exist"), "{why}");
        assert!(refused.to_string().contains(&**why));
    }
    let deadline = asked + Duration::from_secs(60);
    cache.unobstructed(deadline).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert!(cache.read("key").await.unwrap().value.is_none());
    // Polls go on meanwhile.
    tokio::time::sleep(world::LEASE * 2).await;
    let warned = "the row of the epoch cannot be read";
    assert_eq!(log.lines(warned), 1);
    assert_eq!(log.lines("\"cache_epoch\" does not exist"), 1);

    database.has_table.store(true, SeqCst);
    until("the cache is used", || cache.stats().state == State::Ok).await;
    assert_eq!(log.lines("the row of the epoch can be read again"), 1);
    let fenced = cache.fence(&["key"]).await.unwrap();
    assert!(fenced.time_left() > Duration::ZERO);
}
