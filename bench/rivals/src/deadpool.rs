//! axum and deadpool-postgres. Invariant: a request holds a connection for one statement, and the statement comes from
//! the connection's cache.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use deadpool_postgres::{Client, Config, ManagerConfig, Pool, PoolConfig, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::{NoTls, Row};

use crate::{
    CONNECTIONS, Outcome,
    answers::{Failure, Page, Read, User, Value, Write, Written},
    pool_timeout, variable,
};

type Answer<T> = Result<Json<T>, Failure>;

const READ: &str = "SELECT value, version FROM kv WHERE key = $1 AND value IS NOT NULL";
const WRITE: &str = "INSERT INTO kv (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE \
     SET value = excluded.value, version = kv.version + 1, updated_at = now() RETURNING version";
const USER: &str = "SELECT id, name, email FROM users WHERE id = $1";
const USERS: &str = "SELECT id, name, email FROM users WHERE id > $1 ORDER BY id LIMIT $2";

pub(crate) async fn router() -> Outcome<Router> {
    Ok(Router::new()
        .route("/read/{*key}", get(read))
        .route("/write", post(write))
        .route("/users/", get(users))
        .route("/users/{id}", get(user))
        .with_state(pool()?))
}

pub(crate) fn pool() -> Outcome<Pool> {
    let mut config = Config::new();
    config.url = Some(variable("DATABASE_URL")?);
    config.manager = Some(ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    });
    let mut pool = PoolConfig::new(CONNECTIONS.into());
    pool.timeouts.wait = pool_timeout()?;
    config.pool = Some(pool);
    Ok(config.create_pool(Some(Runtime::Tokio1), NoTls)?)
}

async fn read(State(pool): State<Pool>, Path(key): Path<String>) -> Answer<Read> {
    let value = read_value(&pool, &key).await?.ok_or(Failure::Absent)?;
    Ok(Json(Read::new(key, value, false)))
}

async fn write(State(pool): State<Pool>, Json(write): Json<Write>) -> Answer<Written> {
    let version = write_value(&pool, &write).await?;
    Ok(Json(Written::new(write.key, version)))
}

pub(crate) async fn user(State(pool): State<Pool>, Path(id): Path<i64>) -> Answer<User> {
    let client = client(&pool).await?;
    let statement = client.prepare_cached(USER).await?;
    let row = client.query_opt(&statement, &[&id]).await?;
    row.as_ref().map(from_row).map(Json).ok_or(Failure::Absent)
}

async fn users(State(pool): State<Pool>, Query(page): Query<Page>) -> Answer<Vec<User>> {
    let client = client(&pool).await?;
    let statement = client.prepare_cached(USERS).await?;
    let rows = client.query(&statement, &[&page.after, &page.limit]).await?;
    Ok(Json(rows.iter().map(from_row).collect()))
}

fn from_row(row: &Row) -> User {
    User {
        id: row.get(0),
        name: row.get(1),
        email: row.get(2),
    }
}

pub(crate) async fn read_value(pool: &Pool, key: &str) -> Result<Option<Value>, Failure> {
    let client = client(pool).await?;
    let statement = client.prepare_cached(READ).await?;
    let row = client.query_opt(&statement, &[&key]).await?;
    Ok(row.map(|row| Value {
        value: row.get(0),
        version: row.get(1),
    }))
}

pub(crate) async fn write_value(pool: &Pool, write: &Write) -> Result<i64, Failure> {
    let client = client(pool).await?;
    let statement = client.prepare_cached(WRITE).await?;
    let row = client.query_one(&statement, &[&write.key, &write.value]).await?;
    Ok(row.get(0))
}

async fn client(pool: &Pool) -> Result<Client, Failure> {
    pool.get().await.map_err(|error| match error {
        PoolError::Timeout(_) => Failure::Busy,
        error => Failure::broken(error),
    })
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::broken(error)
    }
}
