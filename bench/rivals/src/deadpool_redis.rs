//! axum, deadpool-postgres and Redis as a plain cache-aside. Invariant: a read that misses fills the cache, and a write
//! deletes the cached value, as most programs do it. A fill can overtake a delete and leave a stale value; cenote's
//! cache prevents that.

use axum::{
    Json, Router,
    extract::{FromRef, Path, State},
    routing::{get, post},
};
use deadpool_postgres::Pool;
use redis::{AsyncCommands, Client, RedisError, aio::ConnectionManager};

use crate::{
    Outcome,
    answers::{Failure, Read, Write, Written},
    deadpool::{pool, read_value, user, write_value},
    variable,
};

/// How long the cache keeps a value, in seconds; cenote's default.
const LIFETIME: u64 = 300;

#[derive(Clone)]
struct Stores {
    pool: Pool,
    /// One connection for all requests, which sends their commands in a pipeline.
    cache: ConnectionManager,
}

impl FromRef<Stores> for Pool {
    fn from_ref(stores: &Stores) -> Self {
        stores.pool.clone()
    }
}

pub(crate) async fn router() -> Outcome<Router> {
    let client = Client::open(variable("REDIS_URL")?)?;
    let stores = Stores {
        pool: pool()?,
        cache: client.get_connection_manager().await?,
    };
    Ok(Router::new()
        .route("/read/{*key}", get(read))
        .route("/write", post(write))
        .route("/users/{id}", get(user))
        .with_state(stores))
}

async fn read(State(mut stores): State<Stores>, Path(key): Path<String>) -> Result<Json<Read>, Failure> {
    let cached: Option<Vec<u8>> = stores.cache.get(&key).await?;
    if let Some(cached) = cached {
        let value = serde_json::from_slice(&cached).map_err(Failure::broken)?;
        return Ok(Json(Read::new(key, value, true)));
    }
    let value = read_value(&stores.pool, &key).await?.ok_or(Failure::Absent)?;
    let cell = serde_json::to_vec(&value).map_err(Failure::broken)?;
    let () = stores.cache.set_ex(&key, cell, LIFETIME).await?;
    Ok(Json(Read::new(key, value, false)))
}

async fn write(State(mut stores): State<Stores>, Json(write): Json<Write>) -> Result<Json<Written>, Failure> {
    let version = write_value(&stores.pool, &write).await?;
    let () = stores.cache.del(&write.key).await?;
    Ok(Json(Written::new(write.key, version)))
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::broken(error)
    }
}
