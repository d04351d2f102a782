//! A program with a cached table of its own, for the checker: the requests and answers of `cenote serve`, as far as the checker
//! uses them, over `cenote-cached`. A write is a transaction of two statements in two tables.
//!
//! Invariant: an answer promises no more than the cache does. What is not settled is 202, what is unknown `outcome-unknown`.

use std::{env, error::Error, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cenote_cached::{Cached, Coherence, Committed, Config, Mode, Read, RedisConfig, Source, Sql, Table, WriteError};
use cenote_postgres::Pool;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::OnceCell, time::sleep};

/// A deleted entry keeps its row, without a value, so that a delete has a version.
const TABLES: &str = "SELECT pg_advisory_xact_lock(7);
    CREATE TABLE IF NOT EXISTS entry (key text PRIMARY KEY, value text, version bigint NOT NULL DEFAULT 0);
    CREATE OR REPLACE TRIGGER version BEFORE INSERT OR UPDATE ON entry FOR EACH ROW EXECUTE FUNCTION cenote_version();
    CREATE TABLE IF NOT EXISTS journal (key text NOT NULL, at timestamptz NOT NULL DEFAULT now())";
const READ: &str = "SELECT position, version, value
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position) JOIN entry USING (key)
    WHERE position BETWEEN 1 AND 1000000 AND value IS NOT NULL";
const WRITE: &str = "/* key.write */ INSERT INTO entry (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING version";
const DELETE: &str =
    "/* key.change */ UPDATE entry SET value = NULL WHERE key = $1 AND value IS NOT NULL RETURNING version";
const NOTE: &str = "INSERT INTO journal (key) VALUES ($1)";

type Answer = Result<Response, Problem>;
type Failed = WriteError<cenote_postgres::Error>;

#[derive(Clone)]
struct App(Arc<Inner>);

struct Inner {
    pool: Pool,
    cached: Cached,
    entries: Table<String, String>,
    /// Set once the tables are there and the cache knows its epoch.
    started: OnceCell<()>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = App::open()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    // The checker reads the address from the log.
    println!(
        "{}",
        json!({ "message": "listening", "address": listener.local_addr()?.to_string() })
    );
    tokio::spawn(app.clone().start());
    let router = Router::new()
        .route("/health", get(health))
        .route("/health/ready", get(ready))
        .route("/read", post(read_many))
        .route("/read/{key}", get(read).delete(delete))
        .route("/write", post(write))
        .with_state(app);
    Ok(axum::serve(listener, router).await?)
}

impl App {
    fn open() -> Result<Self, Box<dyn Error>> {
        let mut config = cenote_postgres::Config::from_env()?;
        config.pool.max_size = 10;
        config.pool.acquire_timeout = Duration::from_secs(5);
        let pool = Pool::new(config)?;
        let redis = || -> Result<RedisConfig, Box<dyn Error>> { Ok(RedisConfig::from_url(&env::var("REDIS_URL")?)?) };
        let mode = match env::var("CACHE_MODE")?.as_str() {
            "local" => Mode::Local,
            "strong" => Mode::Strong(redis()?),
            "bounded" => Mode::Bounded {
                redis: redis()?,
                max_staleness: Duration::from_millis(env::var("CACHE_MAX_STALENESS_MS")?.parse()?),
            },
            "ttl" => Mode::Ttl(redis()?),
            "off" => Mode::Off,
            other => return Err(format!("unknown mode {other}").into()),
        };
        let cached = Cached::new(&pool, Config::new("entries", mode))?;
        let entries = cached.table(
            "entry",
            Sql::new(&pool, READ, |row| row.try_get("value")).version("version"),
        )?;
        Ok(Self(Arc::new(Inner {
            pool,
            cached,
            entries,
            started: OnceCell::new(),
        })))
    }

    /// Creates the tables and waits for the cache, however long the database is away.
    async fn start(self) {
        let created = async || -> cenote_postgres::Result<()> {
            cenote_cached::install(&self.0.pool).await?;
            self.0.pool.get().await?.batch_execute(TABLES).await
        };
        while let Err(error) = created().await {
            eprintln!("{error}");
            sleep(Duration::from_millis(100)).await;
        }
        self.0.cached.ready(Duration::from_secs(10)).await;
        let _first = self.0.started.set(());
    }

    /// Changes an entry by two statements. `None`: there was nothing to delete.
    async fn change(&self, key: &str, value: Option<&str>) -> Result<Committed<Option<i64>>, Failed> {
        let Inner {
            pool, cached, entries, ..
        } = &*self.0;
        let key = key.to_owned();
        let key = &key;
        cached
            .transaction(pool, |transaction, touched| {
                touched.add(entries, key);
                Box::pin(async move {
                    transaction.execute(NOTE, &[key]).await?;
                    let row = match value {
                        Some(value) => transaction.query_opt(WRITE, &[key, &value]).await?,
                        None => transaction.query_opt(DELETE, &[key]).await?,
                    };
                    Ok(row.map(|row| row.get(0)))
                })
            })
            .await
    }
}

async fn health(State(app): State<App>) -> Json<Value> {
    let is_well = app.0.cached.stats().state == cenote_cached::State::Ok;
    Json(json!({ "status": if is_well { "ok" } else { "degraded" } }))
}

async fn ready(State(app): State<App>) -> Json<Value> {
    Json(json!({ "status": if app.0.started.initialized() { "ok" } else { "starting" } }))
}

async fn read(State(app): State<App>, Path(key): Path<String>) -> Answer {
    let read = app.0.entries.read(&key).await?;
    let status = [(
        "cache-status",
        if is_hit(&read) {
            "cenote; hit"
        } else {
            "cenote; fwd=miss"
        },
    )];
    Ok(match &read.value {
        Some(value) => (status, Json(json!({ "value": **value, "version": read.version }))).into_response(),
        None => (StatusCode::NOT_FOUND, status).into_response(),
    })
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

async fn read_many(State(app): State<App>, Json(Keys { keys }): Json<Keys>) -> Answer {
    let reads = app.0.entries.read_many(&keys).await?;
    let found = keys.iter().zip(&reads).filter_map(|(key, read)| {
        let value = read.value.as_deref()?;
        let entry = json!({ "value": value, "version": read.version, "from_cache": is_hit(read) });
        Some((key.clone(), entry))
    });
    let found: serde_json::Map<String, Value> = found.collect();
    Ok(Json(json!({ "found": found })).into_response())
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    value: String,
}

async fn write(State(app): State<App>, Json(entry): Json<Entry>) -> Answer {
    let done = app.change(&entry.key, Some(&entry.value)).await?;
    let status = match done.coherence {
        Coherence::Settled => StatusCode::OK,
        Coherence::Pending => StatusCode::ACCEPTED,
    };
    Ok((status, Json(json!({ "version": done.output }))).into_response())
}

async fn delete(State(app): State<App>, Path(key): Path<String>) -> Answer {
    let done = app.change(&key, None).await?;
    Ok(match (done.output, done.coherence) {
        (None, _) => StatusCode::NOT_FOUND.into_response(),
        (Some(version), Coherence::Settled) => {
            (StatusCode::NO_CONTENT, [(header::ETAG, format!("\"{version}\""))]).into_response()
        }
        (Some(version), Coherence::Pending) => {
            (StatusCode::ACCEPTED, Json(json!({ "version": version }))).into_response()
        }
    })
}

fn is_hit(read: &Read<String>) -> bool {
    read.source != Source::Database
}

/// The type of a problem, as the service names it.
struct Problem(&'static str);

impl From<cenote_postgres::Error> for Problem {
    fn from(_: cenote_postgres::Error) -> Self {
        Self("database-unavailable")
    }
}

impl From<Failed> for Problem {
    fn from(error: Failed) -> Self {
        Self(match error {
            WriteError::Unknown(_) => "outcome-unknown",
            WriteError::NotFenced(_) => "cache-unreachable",
            WriteError::NotCommitted(_) => "database-unavailable",
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let problem = json!({ "type": format!("urn:cenote:problem:{}", self.0) });
        (StatusCode::SERVICE_UNAVAILABLE, Json(problem)).into_response()
    }
}
