//! axum and sqlx. Invariant: every query goes straight to the pool, which prepares it once for each connection.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use sqlx::{Error, FromRow, PgPool, postgres::PgPoolOptions};

use crate::{
    CONNECTIONS, Outcome,
    answers::{Failure, Page, Read, User, Value, Write, Written},
    pool_timeout, variable,
};

type Answer<T> = Result<Json<T>, Failure>;

pub(crate) async fn router() -> Outcome<Router> {
    let mut options = PgPoolOptions::new()
        .max_connections(CONNECTIONS.into())
        .test_before_acquire(false);
    if let Some(timeout) = pool_timeout()? {
        options = options.acquire_timeout(timeout);
    }
    let pool = options.connect(&variable("DATABASE_URL")?).await?;
    Ok(Router::new()
        .route("/read/{*key}", get(read))
        .route("/write", post(write))
        .route("/users/", get(users))
        .route("/users/{id}", get(user))
        .with_state(pool))
}

async fn read(State(pool): State<PgPool>, Path(key): Path<String>) -> Answer<Read> {
    let found: Option<(String, i64)> =
        sqlx::query_as("SELECT value, version FROM kv WHERE key = $1 AND value IS NOT NULL")
            .bind(&key)
            .fetch_optional(&pool)
            .await?;
    let (value, version) = found.ok_or(Failure::Absent)?;
    Ok(Json(Read::new(key, Value { value, version }, false)))
}

async fn write(State(pool): State<PgPool>, Json(write): Json<Write>) -> Answer<Written> {
    let version = sqlx::query_scalar(
        "INSERT INTO kv (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE \
         SET value = excluded.value, version = kv.version + 1, updated_at = now() RETURNING version",
    )
    .bind(&write.key)
    .bind(&write.value)
    .fetch_one(&pool)
    .await?;
    Ok(Json(Written::new(write.key, version)))
}

async fn user(State(pool): State<PgPool>, Path(id): Path<i64>) -> Answer<User> {
    let user = sqlx::query_as("SELECT id, name, email FROM users WHERE id = $1")
        .bind(id)
        .fetch_optional(&pool)
        .await?;
    user.map(Json).ok_or(Failure::Absent)
}

async fn users(State(pool): State<PgPool>, Query(page): Query<Page>) -> Answer<Vec<User>> {
    let users = sqlx::query_as("SELECT id, name, email FROM users WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(page.after)
        .bind(page.limit)
        .fetch_all(&pool)
        .await?;
    Ok(Json(users))
}

impl<'r> FromRow<'r, sqlx::postgres::PgRow> for User {
    fn from_row(row: &'r sqlx::postgres::PgRow) -> Result<Self, Error> {
        let (id, name, email) = FromRow::from_row(row)?;
        Ok(Self { id, name, email })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::PoolTimedOut => Self::Busy,
            error => Self::broken(error),
        }
    }
}
