//! `cenote check`: tests everything that the service needs.
//!
//! Invariant: the database is the same after it.

use std::{process::ExitCode, time::Duration};

use cenote_cache::{CheckError, Mode, RedisConfig, RedisProblemKind, Source, State, check_redis};
use cenote_postgres::{Pool, tokio_postgres::Row};
use tokio::time::Instant;

use super::{fail_with, with_log};
use crate::{
    auth::Tokens,
    http::{Tls, TlsConfig},
    limits::check_sharing,
    output::Output,
    settings::{Loaded, Settings},
    startup::{self, Backend, CacheError, Opened, cache_config, limits_redis, reach, tokens},
    store::{Store, WriteError, requirements},
};

/// The oldest supported version of PostgreSQL, as `server_version_num`.
const OLDEST: i32 = 140_000;

/// Maximum wait for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a test found, or why it failed.
type Outcome = Result<String, String>;

pub(super) fn run(loaded: Loaded) -> ExitCode {
    with_log(loaded, |settings, _| check(settings))
}

async fn check(settings: Settings) -> ExitCode {
    let database = match startup::open(settings).await {
        Ok(database) => database,
        Err(error) => return fail_with(&error),
    };
    let mut results = Results::default();
    test(&database, &mut results).await;
    if let Some(config) = &database.backend.settings.tls {
        results.note("TLS certificate", certificate(config));
    }
    database.close().await;
    results.finish()
}

/// Runs all tests, or only the first if there is no connection.
async fn test(database: &Opened, results: &mut Results) {
    let backend = &database.backend;
    let pool = &backend.pool;
    // Nobody else migrates a private database.
    if database.is_private()
        && let Err(error) = backend.bring_up_to_date().await
    {
        results.note("migration", Err(error.to_string()));
    }
    results.note("connect", connect(backend).await);
    if results.failed > 0 {
        return;
    }
    results.note("server version", version(pool).await);
    results.note("session settings", session_settings(backend).await);
    results.note("durability", durability(backend).await);
    results.note("connections", connections(backend).await);
    results.note("pool", fill(pool).await);
    results.note("transaction", transaction(pool).await);
    results.note("abandoned statement", abandoned_statement(pool).await);
    results.note("statement limit", statement_limit(backend).await);
    results.note("schema", schema_is_complete(backend).await);
    if let Some(tokens) = tokens(&backend.settings.auth) {
        results.note("keys of tokens", token_keys(&tokens).await);
    }
    match limits_redis(&backend.settings) {
        Ok(Some(redis)) => results.note("shared limits", shared_limits(&redis).await),
        Ok(None) => {}
        Err(error) => results.note("shared limits", Err(error.to_string())),
    }
    match trial(backend) {
        Ok((store, mode)) => {
            if backend.settings.cache_mode.needs_redis() {
                results.note("redis", redis(&store, &mode).await);
            }
            results.note("key-value round trip", round_trip(&store).await);
        }
        Err(error) => results.note("cache", Err(error.to_string())),
    }
}

/// Creates a store for tests, and returns the cache mode that the service would use.
fn trial(backend: &Backend) -> Result<(Store, Mode), CacheError> {
    let config = cache_config(&backend.settings)?;
    let mode = config.mode.clone();
    Ok((backend.trial(config)?, mode))
}

/// Prints and counts the outcomes.
#[derive(Default)]
struct Results {
    passed: u32,
    failed: u32,
    output: Output,
}

impl Results {
    fn note(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(found) => {
                self.passed += 1;
                self.output.line(format_args!("PASS  {name}: {found}"));
            }
            Err(problem) => {
                self.failed += 1;
                self.output.line(format_args!("FAIL  {name}: {problem}"));
            }
        }
    }

    fn finish(mut self) -> ExitCode {
        let Self { passed, failed, .. } = self;
        let total = passed + failed;
        self.output
            .line(format_args!("Total: {total} | Passed: {passed} | Failed: {failed}"));
        self.output.finish(match failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// The text of an error for people.
fn text(error: impl Into<WriteError>) -> String {
    error.into().to_string()
}

fn certificate(config: &TlsConfig) -> Outcome {
    let tls = Tls::load(config.clone()).map_err(|error| error.to_string())?;
    let expires = httpdate::fmt_http_date(tls.stats().expires_at());
    Ok(format!("valid until {expires}"))
}

async fn connect(backend: &Backend) -> Outcome {
    let started = Instant::now();
    let reached = reach(&backend.pool, Some(backend.deadline())).await;
    reached.map_err(|error| error.to_string())?;
    let connection = backend.pool.get().await.map_err(text)?;
    let opened = started.elapsed();
    let started = Instant::now();
    connection.query_one("SELECT 1", &[]).await.map_err(text)?;
    let answered = started.elapsed();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    Ok(format!(
        "connected in {:.1} ms, first query took {:.1} ms",
        millis(opened),
        millis(answered)
    ))
}

async fn version(pool: &Pool) -> Outcome {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
    let row = ask(pool, sql).await?;
    let (number, name): (i32, String) = (row.get(0), row.get(1));
    match number >= OLDEST {
        true => Ok(format!("PostgreSQL {name}")),
        false => Err(format!("PostgreSQL {name} is older than 14")),
    }
}

/// Tests the settings of the database and the role on which the service's statements depend.
async fn session_settings(backend: &Backend) -> Outcome {
    let connection = backend.pool.get().await.map_err(text)?;
    let wrong = requirements::session(connection.client()).await;
    let mut wrong = wrong.map_err(|error| error.to_string())?;
    let tables = requirements::tables(connection.client(), &backend.settings.schema).await;
    wrong.append(&mut tables.map_err(|error| error.to_string())?);
    match wrong.is_empty() {
        true => Ok("no setting conflicts with the service's statements".to_owned()),
        false => Err(wrong.join("; ")),
    }
}

/// Tests whether a commit survives a crash of the server.
async fn durability(backend: &Backend) -> Outcome {
    let connection = backend.pool.get().await.map_err(text)?;
    let lossy = requirements::durability(connection.client(), &backend.settings.schema).await;
    let lossy = lossy.map_err(|error| error.to_string())?;
    let replication = requirements::replication(connection.client()).await;
    match lossy.is_empty() {
        true => Ok(match replication.map_err(|error| error.to_string())? {
            Some(remark) => remark.to_owned(),
            None => "a commit survives a crash of the server".to_owned(),
        }),
        false => Err(lossy.join("; ")),
    }
}

async fn connections(backend: &Backend) -> Outcome {
    let capacity = backend.capacity().await.map_err(text)?;
    let (wanted, available) = (capacity.wanted, capacity.available());
    match capacity.fits() {
        true => Ok(format!("{wanted} needed, {available} available")),
        false => Err(format!(
            "INSTANCES × (DB_POOL_MAX_SIZE + DB_POOL_MAX_OVERFLOW + {} beside the pool) is {wanted}, {} leaves {available}",
            backend.beside_pool(),
            capacity.limit()
        )),
    }
}

/// Acquires as many connections as the pool may have, all at once.
async fn fill(pool: &Pool) -> Outcome {
    let started = Instant::now();
    let sizes = &pool.config().pool;
    let capacity = sizes.max_size + sizes.max_overflow;
    let mut held = Vec::new();
    for _ in 0..capacity {
        held.push(pool.get().await.map_err(text)?);
    }
    let millis = started.elapsed().as_secs_f64() * 1000.0;
    Ok(format!("{capacity} connections in {millis:.1} ms"))
}

/// Tests that a dropped transaction is rolled back before its connection is used again.
async fn transaction(pool: &Pool) -> Outcome {
    let mut connection = pool.get().await.map_err(text)?;
    let transaction = connection.transaction().await.map_err(text)?;
    let created = transaction.batch_execute("CREATE TEMP TABLE cenote_check (n int)");
    created.await.map_err(text)?;
    drop(transaction);
    let sql = "SELECT to_regclass('pg_temp.cenote_check') IS NULL";
    let row = connection.query_one(sql, &[]).await.map_err(text)?;
    match row.get(0) {
        true => Ok("a dropped transaction is rolled back".to_owned()),
        false => Err("a dropped transaction was not rolled back".to_owned()),
    }
}

/// Tests that a statement whose caller has left is cancelled on the server.
async fn abandoned_statement(pool: &Pool) -> Outcome {
    let limit = pool.config().command_timeout.unwrap_or(Duration::MAX);
    let connection = pool.get().await.map_err(text)?;
    let process = connection.process_id();
    // A timeout drops the query too, only later.
    let sleep = connection.query("SELECT pg_sleep(600)", &[]);
    let dropped = tokio::time::timeout(limit.min(Duration::from_millis(100)), sleep).await;
    drop((dropped, connection));
    let deadline = Instant::now() + Duration::from_secs(2);
    let sql = "SELECT state <> 'active' FROM pg_stat_activity WHERE pid = $1";
    while Instant::now() < deadline {
        let asking = pool.get().await.map_err(text)?;
        let process = process.cast_signed();
        let row = asking.query_opt(sql, &[&process]).await.map_err(text)?;
        // The same session runs this query, so the abandoned statement has ended.
        if asking.process_id() == process.cast_unsigned() || row.is_none_or(|row| row.get(0)) {
            return Ok("an abandoned statement is cancelled on the server".to_owned());
        }
        drop(asking);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("an abandoned statement keeps running on the server".to_owned())
}

/// Tests that the keys of tokens can be loaded.
async fn token_keys(tokens: &Tokens) -> Outcome {
    let keys = tokens.load_keys().await.map_err(|error| error.to_string())?;
    Ok(format!("{keys} loaded, and each has verified a first signature"))
}

async fn schema_is_complete(backend: &Backend) -> Outcome {
    let checked = backend.migration().check(&backend.pool).await;
    checked.map_err(|error| error.to_string())?;
    Ok(format!("all tables exist in {}", backend.settings.schema))
}

/// Tests that the server ends a statement whose sender has gone: the coherence of the cache depends on it.
async fn statement_limit(backend: &Backend) -> Outcome {
    backend.check_statement_limit().await?;
    Ok("the server ends statements that take too long".to_owned())
}

/// Tests that Redis runs the script through which instances share the limits.
async fn shared_limits(redis: &RedisConfig) -> Outcome {
    let tried = try_redis(async || check_sharing(redis).await).await;
    tried.map_err(|error| match &error {
        CheckError::Redis(problem) if problem.kind() == RedisProblemKind::Permission => {
            // Redis does not say which command of a script it refuses.
            format!("{error}. The script needs +time, +get and +set")
        }
        _ => error.to_string(),
    })?;
    Ok("instances share them through Redis".to_owned())
}

/// Tries until Redis succeeds, while the problem may be temporary.
async fn try_redis(mut check: impl AsyncFnMut() -> Result<(), CheckError>) -> Result<(), CheckError> {
    let started = Instant::now();
    while let Err(error) = check().await {
        let is_temporary = matches!(&error, CheckError::Redis(problem) if !problem.is_permanent());
        if started.elapsed() >= REDIS_TIMEOUT || !is_temporary {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Tests that Redis does what the mode needs.
async fn redis(store: &Store, mode: &Mode) -> Outcome {
    let started = Instant::now();
    let is_over = || started.elapsed() >= REDIS_TIMEOUT;
    let tried = try_redis(async || check_redis(mode).await).await;
    tried.map_err(|error| error.to_string())?;
    let millis = started.elapsed().as_secs_f64() * 1000.0;
    // The store has a connection of its own, which the next test needs.
    while store.cache_stats().is_some_and(|stats| stats.state != State::Ok) && !is_over() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(format!("connected in {millis:.1} ms"))
}

/// Tests a write, two reads and a delete through the store and its cache.
async fn round_trip(store: &Store) -> Outcome {
    let key = format!("cenote-check-{:016x}", fastrand::u64(..));
    let outcome = write_read_delete(store, &key).await;
    // Remove the row even if the test failed.
    store.keys.forget(&key).await.map_err(text)?;
    outcome
}

async fn write_read_delete(store: &Store, key: &str) -> Outcome {
    let written = store.keys.write(key.to_owned(), "hello".to_owned()).await;
    let written = written.map_err(text)?.version;
    let mut sources = Vec::new();
    for _ in 0..2 {
        let read = store.keys.read(key).await.map_err(text)?;
        sources.push(match read.source {
            Source::Near => "this process",
            Source::Redis => "Redis",
            Source::Database => "the database",
        });
        match read.value {
            Some(value) if value.bytes == "hello" && value.version == written => {}
            _ => return Err("a read did not return the value that was written".to_owned()),
        }
    }
    let deleted = store.keys.delete(key).await.map_err(text)?.is_some();
    let gone = store.keys.read(key).await.map_err(text)?.value.is_none();
    if !deleted || !gone {
        return Err("a deleted key still had a value".to_owned());
    }
    let sources = sources.join(" and ");
    Ok(format!("written, read from {sources}, deleted"))
}

/// Runs a query that returns one row.
async fn ask(pool: &Pool, sql: &str) -> Result<Row, String> {
    let connection = pool.get().await.map_err(text)?;
    connection.query_one(sql, &[]).await.map_err(text)
}
