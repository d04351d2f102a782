//! Writes that share a commit, and what each caller is told about its own write.

use std::{sync::Arc, time::Duration};

use cenote_postgres::{BatchLimits, Combine, Combiner, Connection, Error, Pool, Result, Rows};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::support::{SOON, Watcher, database, until};

/// Appends words to lines. Each append makes a new version of its line.
struct Lines;

#[derive(Clone)]
struct Append {
    line: &'static str,
    word: String,
    /// Append only if this is the line's version; such a write cannot be folded.
    only_at: Option<i64>,
}

const APPEND: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $5, true))
    INSERT INTO line (name, words, version)
    SELECT added.name, added.words, added.many FROM patience,
    unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS added (name, words, many, only_at)
    WHERE only_at IS NULL
    OR only_at = coalesce((SELECT version FROM line WHERE line.name = added.name), 0)
    ON CONFLICT (name) DO UPDATE
    SET words = line.words || excluded.words, version = line.version + excluded.version
    RETURNING name, version";

impl Combine for Lines {
    type Key = str;
    type Write = Append;
    /// The version that the append made, if its condition held.
    type Outcome = Option<i64>;
    type Error = Error;

    fn key<'a>(&self, append: &'a Append) -> &'a str {
        append.line
    }

    fn bytes(&self, append: &Append) -> usize {
        append.word.len()
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, row: &[&Append], next: &Append) -> bool {
        row[0].only_at.is_none() && next.only_at.is_none()
    }

    async fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Append>,
        lock_timeout: Duration,
    ) -> Result<Vec<Option<i64>>> {
        let names: Vec<&str> = rows.iter().map(|row| row[0].line).collect();
        let words = |row: &[&Append]| row.iter().map(|append| &*append.word).collect::<String>();
        let words: Vec<String> = rows.iter().map(words).collect();
        let counts: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let conditions: Vec<Option<i64>> = rows.iter().map(|row| row[0].only_at).collect();
        let lock_timeout = lock_timeout.as_millis().to_string();
        let changed = connection
            .query(APPEND, &[&names, &words, &counts, &conditions, &lock_timeout])
            .await?;
        let mut outcomes = Vec::new();
        for row in rows.iter() {
            let mut changed = changed.iter();
            let version = changed.find(|changed| changed.get::<_, &str>(0) == row[0].line);
            let version: Option<i64> = version.map(|changed| changed.get(1));
            let place = |nth| version.map(|version| version - row.len() as i64 + nth);
            outcomes.extend((1..=row.len() as i64).map(place));
        }
        Ok(outcomes)
    }
}

/// A word must not contain an "x".
const TABLE: &str = "CREATE TABLE line (name text PRIMARY KEY, words text CHECK (words !~ 'x'), version bigint)";

async fn lines(max_size: u32) -> (Combiner<Lines>, Pool, Watcher) {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(TABLE).await;
    let pool = database.pool(max_size);
    (Combiner::new(Lines, &pool), pool, watcher)
}

fn append(line: &'static str, word: impl ToString) -> Append {
    Append {
        line,
        word: word.to_string(),
        only_at: None,
    }
}

impl Watcher {
    async fn words_of(&self, line: &str) -> i64 {
        let sql = "SELECT coalesce(max(words), '0')::bigint FROM line WHERE name = $1";
        self.number(sql, &[&line]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_key_take_effect_in_the_order_in_which_they_were_submitted() {
    let (combiner, _pool, watcher) = lines(10).await;
    // Polled in this order, all of them before the first is answered.
    let writes = (1..=9).map(|digit| combiner.submit(append("a", digit)));
    let versions = join_all(writes).await;
    let versions: Vec<_> = versions.into_iter().map(|version| version.unwrap()).collect();
    assert!(versions.into_iter().eq((1..=9).map(Some)));
    assert_eq!(watcher.words_of("a").await, 123_456_789);
    assert!(combiner.stats().batches < 9, "{:?}", combiner.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_cannot_be_folded_goes_in_its_own_statement_in_its_order() {
    let (combiner, _pool, watcher) = lines(10).await;
    let conditional = |digit, at| Append {
        only_at: Some(at),
        ..append("a", digit)
    };
    let writes = [
        append("a", 1),
        append("a", 2),
        conditional(3, 2),
        conditional(4, 2),
        append("a", 5),
        append("b", 6),
    ];
    let versions = join_all(writes.map(|write| combiner.submit(write))).await;
    let versions: Vec<_> = versions.into_iter().map(|version| version.unwrap()).collect();
    let expected = [Some(1), Some(2), Some(3), None, Some(4), Some(1)];
    assert_eq!(versions, expected);
    assert_eq!(watcher.words_of("a").await, 1235);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_database_refuses_fails_alone() {
    let (combiner, pool, watcher) = lines(2).await;
    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let writes = names.map(|name| {
        let word = if "bh".contains(name) { "x" } else { "7" };
        let combiner = combiner.clone();
        tokio::spawn(async move { combiner.submit(append(name, word)).await })
    });
    until("all wait for the connection", async || {
        combiner.stats().waiting == names.len()
    })
    .await;
    drop(held);
    for (name, write) in names.into_iter().zip(writes) {
        let written = write.await.unwrap();
        match "bh".contains(name) {
            true => assert_eq!(written.unwrap_err().code().unwrap().code(), "23514"),
            false => assert_eq!(written.unwrap(), Some(1), "{name}"),
        }
    }
    assert_eq!(combiner.stats().batches, 1);
    assert_eq!(watcher.rows_of("line").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_database_refuses_fails_alone_also_among_writes_of_its_key() {
    let (combiner, pool, watcher) = lines(1).await;
    let held = pool.get().await.unwrap();
    let words = ["1", "2", "x", "3", "x", "4", "5"];
    let writes = words.map(|word| combiner.submit(append("a", word)));
    let (versions, ()) = tokio::join!(join_all(writes), async { drop(held) });
    let versions: Vec<_> = versions.into_iter().map(Result::ok).collect();
    let expected = [Some(1), Some(2), None, Some(3), None, Some(4), Some(5)];
    assert_eq!(versions, expected.map(|version| version.map(Some)));
    assert_eq!(watcher.words_of("a").await, 12_345);
    assert_eq!(combiner.stats().batches, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_another_session_has_locked_holds_up_only_the_writes_to_it() {
    let (combiner, pool, watcher) = lines(6).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for name in names {
        combiner.submit(append(name, 1)).await.unwrap();
    }
    let held = "BEGIN; UPDATE line SET words = '4' WHERE name IN ('c', 'd', 'h')";
    watcher.run(held).await;
    let mut locked = Vec::new();
    for digit in 2..=3 {
        for name in ["c", "d", "h"] {
            let combiner = combiner.clone();
            locked.push(tokio::spawn(async move { combiner.submit(append(name, digit)).await }));
        }
        // In the same statements, and behind them.
        for name in ["a", "b", "e", "f", "g", "i"] {
            let written = timeout(SOON, combiner.submit(append(name, digit)));
            assert_eq!(written.await.unwrap().unwrap(), Some(digit));
        }
    }
    until("only one connection waits for locks", async || {
        pool.stats().pool.in_use <= 1
    })
    .await;
    assert!(locked.iter().all(|write| !write.is_finished()));
    watcher.run("COMMIT").await;
    for (nth, write) in locked.into_iter().enumerate() {
        let version = 2 + nth as i64 / 3;
        assert_eq!(write.await.unwrap().unwrap(), Some(version), "{nth}");
    }
    assert_eq!(watcher.words_of("d").await, 423);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_never_released_ends_as_a_timeout_and_leaves_nothing() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run(TABLE).await;
    let mut config = database.config(4);
    config.command_timeout = Some(Duration::from_secs(1));
    let pool = Pool::new(config).unwrap();
    let combiner = Combiner::new(Lines, &pool);
    watcher.run("BEGIN; LOCK TABLE line").await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let writes = names.map(|name| combiner.submit(append(name, 1)));
    for written in join_all(writes).await {
        let error = written.unwrap_err();
        let told = matches!(error, Error::Timeout(_) | Error::Deadline { sent: false, .. });
        assert!(told, "{error}");
    }
    watcher.run("COMMIT").await;
    assert_eq!(combiner.submit(append("z", 1)).await.unwrap(), Some(1));
    assert_eq!(watcher.rows_of("line").await, 1);
}

/// A write of "z" takes a minute.
const NAP: &str = "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.words = 'z' THEN PERFORM pg_sleep(60); END IF; RETURN new; END $$;
    CREATE TRIGGER nap BEFORE INSERT ON line FOR EACH ROW EXECUTE FUNCTION nap()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_the_statement_is_an_unknown_outcome_for_all_and_nothing_is_repeated() {
    let (combiner, pool, watcher) = lines(1).await;
    watcher.run(NAP).await;
    let held = pool.get().await.unwrap();
    let names = ["a", "b", "c"];
    let writes = names.map(|name| {
        let combiner = combiner.clone();
        let word = if name == "b" { "z" } else { "1" };
        tokio::spawn(async move { combiner.submit(append(name, word)).await })
    });
    until("all wait for the connection", async || {
        combiner.stats().waiting == names.len()
    })
    .await;
    let process = held.process_id();
    drop(held);
    watcher.sees_running(process, "INSERT INTO line").await;
    watcher.terminate(process).await;
    for write in writes {
        let error = write.await.unwrap().unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
    assert_eq!(watcher.rows_of("line").await, 0);
    assert_eq!(combiner.submit(append("a", 1)).await.unwrap(), Some(1));
    assert_eq!(
        pool.stats().queries,
        2,
        "one statement for each batch, and no second try"
    );
}

#[tokio::test]
async fn two_combiners_over_one_pool_do_not_deadlock() {
    let (_, pool, watcher) = lines(6).await;
    let limits = BatchLimits {
        workers: 1,
        ..BatchLimits::of(&pool)
    };
    let combiners = [(); 2].map(|()| Combiner::with_limits(Lines, &pool, limits.clone()));
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let clients = (0..32).map(|client| {
        let combiner = Arc::new(combiners[client % 2].clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let name = names[(client * 7 + round * 5) % names.len()];
                combiner.submit(append(name, "")).await.unwrap().unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let sum = "SELECT sum(version)::bigint FROM line";
    assert_eq!(watcher.number(sum, &[]).await, 32 * 20);
    assert_eq!(pool.stats().errors, 0);
}

/// Writes nothing; whether it panics or miscounts depends on the words.
struct Wrong;

impl Combine for Wrong {
    type Key = str;
    type Write = &'static str;
    type Outcome = ();
    type Error = Error;

    fn key<'a>(&self, word: &'a &'static str) -> &'a str {
        word
    }

    fn bytes(&self, word: &&'static str) -> usize {
        word.len()
    }

    fn database_error(error: &Error) -> Option<&Error> {
        Some(error)
    }

    fn folds(&self, _: &[&&'static str], _: &&'static str) -> bool {
        false
    }

    async fn commit(&self, connection: &Connection, rows: &Rows<'_, &'static str>, _: Duration) -> Result<Vec<()>> {
        connection.execute("SELECT 1", &[]).await?;
        let words: Vec<_> = rows.iter().flatten().collect();
        assert!(!words.contains(&&&"panic"), "on purpose");
        Ok(vec![(); words.len() + usize::from(words.contains(&&&"miscount"))])
    }
}

#[tokio::test]
async fn code_that_panics_or_miscounts_is_an_unknown_outcome_and_costs_no_connection() {
    let pool = database().await.pool(1);
    let process_id = pool.get().await.unwrap().process_id();
    let combiner = Combiner::new(Wrong, &pool);
    let error = combiner.submit("panic").await.unwrap_err();
    assert!(
        matches!(&error, Error::Panicked(text) if text.contains("on purpose")),
        "{error:?}"
    );
    assert!(error.is_outcome_unknown() && !error.is_retryable());
    let error = combiner.submit("miscount").await.unwrap_err();
    assert!(
        matches!(error, Error::Miscounted { outcomes: 2, writes: 1 }),
        "{error:?}"
    );
    assert!(error.is_outcome_unknown() && !error.is_retryable());
    combiner.submit("right").await.unwrap();
    assert_eq!(combiner.stats().running, 0);
    assert_eq!(pool.get().await.unwrap().process_id(), process_id);
}
