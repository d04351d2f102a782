//! Random callers write, delete and read by key, while some give up, some values are refused, rows are locked from
//! outside and connections are killed. What each caller was told is then compared with the tables.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_postgres::{
    BatchLimits, Combine, Combiner, Connection, Error, ExtraBatches, Loader, Pool, Result, Retry, Rows,
};
use fastrand::Rng;
use tokio::time::{sleep, timeout};

use crate::support::{self, Watcher, database, give_up_after, until};

/// Stores a value under a key, or deletes the key.
struct Change {
    key: i64,
    value: Option<String>,
}

/// Logs every version that a statement made, so that the outcome of each change can be looked up afterwards.
struct Store;

/// A value must not be "bad".
const TABLES: &str = "CREATE TABLE kv (key bigint PRIMARY KEY, value text, version bigint NOT NULL);
    CREATE TABLE log (key bigint, value text CHECK (value <> 'bad'), version bigint, PRIMARY KEY (key, version));";
/// One statement, which also logs each change with its own version. A key without a value is not deleted.
const CHANGE: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $4, true)),
    changed AS (
        INSERT INTO kv SELECT change.* FROM patience,
        unnest($1::bigint[], $2::text[], $3::bigint[]) AS change (key, value, versions)
        WHERE versions > 0 OR (SELECT kv.value IS NOT NULL FROM kv WHERE kv.key = change.key)
        ON CONFLICT (key) DO UPDATE
        SET value = excluded.value, version = kv.version + greatest(excluded.version, 1)
        WHERE excluded.version > 0 OR kv.value IS NOT NULL
        RETURNING key, version),
    logged AS (
        INSERT INTO log SELECT step.key, step.value, changed.version - step.behind
        FROM unnest($5::bigint[], $6::text[], $7::bigint[]) AS step (key, value, behind) JOIN changed USING (key))
    SELECT key, version FROM changed";
const READ: &str = "SELECT wanted.position, kv.value, kv.version \
    FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (key, position) \
    JOIN kv ON kv.key = wanted.key AND kv.value IS NOT NULL";

/// For each change of a row, the number of versions up to its own, or `None` if the change makes no version.
fn steps(row: &[&Change]) -> Vec<Option<i64>> {
    let (mut made, mut is_there) = (0, true);
    let step = |change: &&Change| {
        let makes_one = change.value.is_some() || is_there;
        is_there = change.value.is_some();
        made += i64::from(makes_one);
        makes_one.then_some(made)
    };
    row.iter().map(step).collect()
}

impl Combine for Store {
    type Key = i64;
    type Write = Change;
    type Outcome = Option<i64>;
    type Error = Error;

    fn key<'a>(&self, change: &'a Change) -> &'a i64 {
        &change.key
    }

    fn bytes(&self, change: &Change) -> usize {
        8 + change.value.as_ref().map_or(0, String::len)
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, row: &[&Change], next: &Change) -> bool {
        row[0].value.is_some() || next.value.is_none()
    }

    async fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Change>,
        lock_timeout: Duration,
    ) -> Result<Vec<Option<i64>>> {
        let made = |row: &[&Change]| steps(row).into_iter().flatten().last().unwrap_or(0);
        let keys: Vec<i64> = rows.iter().map(|row| row[0].key).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        let values: Vec<_> = rows.iter().map(|row| row[row.len() - 1].value.as_deref()).collect();
        let leads = |row: &[&Change]| if row[0].value.is_some() { made(row) } else { 0 };
        let versions: Vec<i64> = rows.iter().map(leads).collect();
        let mut logged = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.iter() {
            for (change, step) in row.iter().zip(steps(row)) {
                if let Some(step) = step {
                    logged.0.push(change.key);
                    logged.1.push(change.value.as_deref());
                    logged.2.push(made(row) - step);
                }
            }
        }
        let lock_timeout = lock_timeout.as_millis().to_string();
        let (log_keys, log_values, behind) = logged;
        let changed = connection
            .query(
                CHANGE,
                &[
                    &keys,
                    &values,
                    &versions,
                    &lock_timeout,
                    &log_keys,
                    &log_values,
                    &behind,
                ],
            )
            .await?;
        let newest: HashMap<i64, i64> = changed.iter().map(|row| (row.get(0), row.get(1))).collect();
        let outcomes = rows.iter().flat_map(|row| {
            let newest = newest.get(&row[0].key).copied();
            let version = move |step: Option<i64>| Some(newest? - made(row) + step?);
            steps(row).into_iter().map(version)
        });
        Ok(outcomes.collect())
    }
}

/// The outcome of a change, as its caller was told.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// The change made this version, or none.
    Made(Option<i64>),
    /// The change had no effect.
    Failed,
    /// The change may have had an effect.
    Unknown,
}

/// One change of a caller: the key, the value, and what the caller was told.
type Done = (i64, Option<String>, Told);

const KEYS: i64 = 6;
const CALLERS: usize = 24;

struct World {
    changes: Combiner<Store>,
    values: Loader<i64, (String, i64)>,
    /// The newest version of each key that anyone has been told of.
    known: Mutex<HashMap<i64, i64>>,
}

impl World {
    fn known(&self, key: i64) -> i64 {
        self.known.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    fn learn(&self, key: i64, version: i64) {
        let mut known = self.known.lock().unwrap();
        known
            .entry(key)
            .and_modify(|newest| *newest = version.max(*newest))
            .or_insert(version);
    }

    async fn change(&self, key: i64, value: Option<String>, rng: &mut Rng) -> Told {
        let known = self.known(key);
        let is_bad = value.as_deref() == Some("bad");
        let change = Change { key, value };
        let told = match rng.u32(0..20) {
            // Gives up half-way, after a number of polls or after a time; or has a deadline.
            0 => give_up_after(rng.u32(1..4), self.changes.submit(change)).await,
            1 => {
                let limit = Duration::from_micros(rng.u64(0..20_000));
                timeout(limit, self.changes.submit(change)).await.ok()
            }
            2 | 3 => {
                let limit = Duration::from_micros(rng.u64(0..20_000));
                Some(self.changes.submit_within(change, limit).await)
            }
            _ => Some(self.changes.submit(change).await),
        };
        match told {
            None => Told::Unknown,
            Some(Ok(version)) => {
                assert!(!is_bad, "a refused value is not stored");
                if let Some(version) = version {
                    assert!(version > known, "{version} of {key} after {known}");
                    self.learn(key, version);
                }
                Told::Made(version)
            }
            Some(Err(error)) if error.is_outcome_unknown() => Told::Unknown,
            Some(Err(error)) => {
                let is_told_why = match &error {
                    Error::Deadline { sent, .. } => !sent,
                    // Its deadline was too short for the queue.
                    Error::QueueFull { .. } => true,
                    Error::Database(refused) => is_bad && refused.code().code() == "23514",
                    // Its connections were killed before the statement was sent, more often than it is retried.
                    Error::Disconnected { .. } => true,
                    _ => false,
                };
                assert!(is_told_why, "{error:?}");
                Told::Failed
            }
        }
    }

    async fn read(&self, key: i64) {
        let known = self.known(key);
        match self.values.load(key).await {
            Ok(Some(found)) => {
                let (value, version) = &found;
                assert!(*version >= known, "{version} of {key} after {known}");
                assert!(value.starts_with(&format!("{key}/")), "{value} under {key}");
                self.learn(key, *version);
            }
            Ok(None) => {}
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

async fn caller(world: Arc<World>, id: usize, mut rng: Rng, rounds: usize) -> Vec<Done> {
    let mut done = Vec::new();
    for round in 0..rounds {
        let key = rng.i64(0..KEYS);
        let value = match rng.u32(0..10) {
            0..6 => Some(format!("{key}/{id}/{round}")),
            6 => Some("bad".to_owned()),
            7 | 8 => None,
            _ => {
                world.read(key).await;
                continue;
            }
        };
        let told = world.change(key, value.clone(), &mut rng).await;
        done.push((key, value, told));
    }
    done
}

/// Kills sessions and locks rows until it is told to stop.
async fn trouble(watcher: &Watcher, mut rng: Rng, stop: &AtomicBool) {
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid() \
                AND backend_type = 'client backend' ORDER BY random() LIMIT 1) AS one";
    while !stop.load(SeqCst) {
        // The faults come at random times.
        sleep(Duration::from_millis(rng.u64(5..40))).await;
        match rng.bool() {
            true => assert!(watcher.number(kill, &[]).await <= 1),
            false => {
                let held = rng.u64(1..120);
                let key = rng.i64(0..KEYS);
                let lock = format!(
                    "BEGIN; SELECT FROM kv WHERE key = {key} FOR UPDATE; \
                     SELECT pg_sleep({held} / 1000.0); COMMIT"
                );
                watcher.run(&lock).await;
            }
        }
    }
}

async fn run(seed: u64) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(TABLES).await;
    let mut rng = Rng::with_seed(seed);
    let mut config = database.config(rng.u32(2..8));
    config.retry = Retry {
        attempts: 20,
        delay: Duration::from_millis(2),
    };
    let pool = Pool::new(config).unwrap();
    let limits = BatchLimits {
        workers: rng.u32(1..4),
        extra: ExtraBatches::new(rng.u32(0..3)),
        batch_rows: rng.usize(1..40),
        ..BatchLimits::of(&pool)
    };
    let world = Arc::new(World {
        changes: Combiner::with_limits(Store, &pool, limits),
        values: Loader::new(pool.clone(), READ, |row| Ok((row.try_get(1)?, row.try_get(2)?))),
        known: Mutex::default(),
    });
    let stop = AtomicBool::new(false);
    let callers = (0..CALLERS).map(|id| {
        let rng = Rng::with_seed(rng.u64(..));
        tokio::spawn(caller(world.clone(), id, rng, 30))
    });
    let callers: Vec<_> = callers.collect();
    let crowd = async {
        let mut all = Vec::new();
        for caller in callers {
            all.push(caller.await.unwrap());
        }
        stop.store(true, SeqCst);
        all
    };
    let troubles = trouble(&watcher, Rng::with_seed(seed ^ 1), &stop);
    let (all, ()) = tokio::join!(crowd, troubles);
    // Changes whose callers gave up may still be under way.
    until("nothing is under way", async || {
        let stats = world.changes.stats();
        stats.running == 0 && stats.waiting == 0 && pool.stats().pool.in_use == 0
    })
    .await;
    holds(&pool, &all).await;
}

/// Checks that the tables agree with what the callers were told.
async fn holds(pool: &Pool, all: &[Vec<Done>]) {
    // The last session to be killed may end during this query.
    let query = async |sql| {
        let query = || async { pool.get().await?.query(sql, &[]).await };
        pool.retry_idempotent(query).await.unwrap()
    };
    let logged = query("SELECT key, version, value FROM log").await;
    let log: BTreeMap<(i64, i64), Option<String>> = logged
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .collect();
    // The versions of a key are dense, and the newest is the one in its row.
    let standing = query("SELECT key, version, value FROM kv").await;
    for row in &standing {
        let (key, version): (i64, i64) = (row.get(0), row.get(1));
        let versions = log.range((key, 0)..=(key, i64::MAX));
        assert!(
            versions.clone().map(|((_, version), _)| *version).eq(1..=version),
            "{key}"
        );
        assert_eq!(log[&(key, version)], row.get::<_, Option<String>>(2), "{key}");
    }
    let mut told = BTreeMap::new();
    for done in all {
        let mut last = HashMap::new();
        for (key, value, outcome) in done {
            if let Told::Made(Some(version)) = outcome {
                // A version of its own, with the value it wrote, after its own earlier versions.
                assert!(told.insert((*key, *version), value).is_none(), "{key} {version}");
                assert_eq!(log.get(&(*key, *version)), Some(value), "{key} {version}");
                let before = last.insert(*key, *version);
                assert!(before < Some(*version), "{key}: {before:?} before {version}");
            }
            if let (Told::Made(None), Some(_)) = (outcome, value) {
                panic!("a write made no version");
            }
        }
    }
    // Each other version is a change whose outcome its caller does not know. So a failed change has made none.
    let mut unknown: HashMap<(i64, Option<&String>), usize> = HashMap::new();
    for (key, value, outcome) in all.iter().flatten() {
        if matches!(outcome, Told::Unknown) {
            *unknown.entry((*key, value.as_ref())).or_default() += 1;
        }
    }
    for ((key, version), value) in &log {
        if told.contains_key(&(*key, *version)) {
            continue;
        }
        let left = unknown.get_mut(&(*key, value.as_ref()));
        let left = left.unwrap_or_else(|| panic!("{key} {version}: no caller wrote {value:?}"));
        *left = left.checked_sub(1).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_is_told_of_their_own_change_and_nothing_that_was_acknowledged_is_lost() {
    let rounds = support::rounds("COMBINING_ROUNDS", 6);
    let first = fastrand::u64(..);
    for seed in (0..u64::from(rounds)).map(|round| first.wrapping_add(round)) {
        println!("seed {seed}");
        run(seed).await;
    }
}

/// As in the service, where each core has a runtime with one thread.
#[tokio::test]
async fn everyone_is_told_of_their_own_change_also_on_one_thread() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    run(seed).await;
}
