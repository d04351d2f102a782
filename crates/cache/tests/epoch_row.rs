//! A cache whose row of the epoch cannot be read, because the table is missing.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

#[path = "../../pool/tests/it/support/log.rs"]
mod log;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_cache::{Cache, EpochRow, Obstacle, Origin, State, Trust, Value};
use log::Log;
use tokio::time::Instant;
use world::{config, redis, strong, until};

#[derive(Debug, Clone, thiserror::Error)]
#[error("relation \"cache_epoch\" does not exist")]
struct NoTable;

/// A database without values, whose table is missing at first.
#[derive(Clone, Default)]
struct Tableless {
    has_table: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
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
        self.polls.fetch_add(1, SeqCst);
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

#[tokio::test]
async fn a_missing_table_is_logged_once_with_the_databases_error_and_writes_fail_at_once() {
    let (log, _guard) = Log::start();
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
    let polls = database.polls.load(SeqCst);
    until("polls go on", || database.polls.load(SeqCst) >= polls + 4).await;
    let warned = "the row of the epoch cannot be read";
    assert_eq!(log.lines(&[warned]).len(), 1);
    assert_eq!(log.lines(&["\"cache_epoch\" does not exist"]).len(), 1);

    database.has_table.store(true, SeqCst);
    until("the cache is used", || cache.stats().state == State::Ok).await;
    assert_eq!(log.lines(&["the row of the epoch can be read again"]).len(), 1);
    let fenced = cache.fence(&["key"]).await.unwrap();
    assert!(fenced.time_left() > Duration::ZERO);
}
