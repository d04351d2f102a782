//! An axum service over one table, with an error type of its own.
//!
//!     cargo run --example axum_crud
//!
//! Handlers use the pool's shortcuts, which acquire a connection, run one statement and give the connection back. An order is
//! a transaction that fails with an error of the application, and is repeated if it lost against another. [`ShopError`]
//! decides what a client sees: [`Error::public`] has no host, no source line and no value.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cenote_postgres::{Config, Error, Pool};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Why a request failed. Any [`Error`] becomes one by `?`.
#[derive(Debug)]
enum ShopError {
    Unknown,
    SoldOut { left: i64 },
    Database(Error),
}

impl From<Error> for ShopError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "there are no such goods".to_owned()),
            Self::SoldOut { left } => (StatusCode::CONFLICT, format!("only {left} left")),
            Self::Database(error) => {
                let status = match &error {
                    _ if error.constraint().is_some() => StatusCode::CONFLICT,
                    Error::Acquire(_) | Error::QueueFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    _ if error.is_outcome_unknown() => StatusCode::GATEWAY_TIMEOUT,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                // All of it is for the log.
                eprintln!("{error}");
                (status, error.public().to_owned())
            }
        };
        let body = json!({ "status": status.as_u16(), "title": status.canonical_reason(), "detail": detail });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, body.to_string()).into_response()
    }
}

type Answer<T> = Result<T, ShopError>;

async fn add(State(pool): State<Pool>, Json(goods): Json<Value>) -> Answer<StatusCode> {
    let (name, pieces) = (goods["name"].as_str().unwrap_or_default(), goods["pieces"].as_i64());
    pool.execute("INSERT INTO goods (name, pieces) VALUES ($1, $2)", &[&name, &pieces])
        .await?;
    Ok(StatusCode::CREATED)
}

async fn read(State(pool): State<Pool>, Path(name): Path<String>) -> Answer<Json<Value>> {
    let found = pool
        .query_opt("SELECT pieces FROM goods WHERE name = $1", &[&name])
        .await?;
    let pieces: i64 = found.ok_or(ShopError::Unknown)?.get(0);
    Ok(Json(json!({ "name": name, "pieces": pieces })))
}

async fn list(State(pool): State<Pool>) -> Answer<Json<Vec<String>>> {
    let rows = pool.query("SELECT name FROM goods ORDER BY name", &[]).await?;
    Ok(Json(rows.iter().map(|row| row.get(0)).collect()))
}

async fn remove(State(pool): State<Pool>, Path(name): Path<String>) -> Answer<StatusCode> {
    match pool.execute("DELETE FROM goods WHERE name = $1", &[&name]).await? {
        0 => Err(ShopError::Unknown),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Takes pieces out of the stock and notes the order: both or neither.
async fn order(State(pool): State<Pool>, Path((name, pieces)): Path<(String, i64)>) -> Answer<Json<Value>> {
    let left = pool
        .transaction(|transaction| {
            let name = &name;
            Box::pin(async move {
                let take = "UPDATE goods SET pieces = pieces - $2 WHERE name = $1 RETURNING pieces";
                let taken = transaction.query_opt(take, &[name, &pieces]).await?;
                let left: i64 = taken.ok_or(ShopError::Unknown)?.get(0);
                if left < 0 {
                    return Err(ShopError::SoldOut { left: left + pieces });
                }
                let note = "INSERT INTO orders (name, pieces) VALUES ($1, $2)";
                transaction.execute(note, &[name, &pieces]).await?;
                Ok(left)
            })
        })
        .await?;
    Ok(Json(json!({ "left": left })))
}

fn app(pool: Pool) -> Router {
    Router::new()
        .route("/goods", get(list).post(add))
        .route("/goods/{name}", get(read).delete(remove))
        .route("/goods/{name}/orders/{pieces}", post(order))
        .with_state(pool)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = cenote_examples::database().await?;
    let mut config = Config::from_url(database.url())?;
    config.pool.max_size = 1;
    config.pool.acquire_timeout = Duration::from_millis(300);
    let pool = Pool::new(config)?;
    pool.warm_up_within(Duration::from_secs(10)).await?;
    let tables = "DROP TABLE IF EXISTS goods, orders;
        CREATE TABLE goods (name text PRIMARY KEY, pieces bigint NOT NULL);
        CREATE TABLE orders (name text, pieces bigint)";
    pool.get().await?.batch_execute(tables).await?;

    let app = app(pool.clone());
    // A program would now call `axum::serve(listener, app)`; this example sends the requests itself.
    for (method, path, body) in [
        (Method::POST, "/goods", r#"{"name": "lamp", "pieces": 3}"#),
        (Method::POST, "/goods", r#"{"name": "lamp", "pieces": 3}"#),
        (Method::POST, "/goods/lamp/orders/2", ""),
        (Method::POST, "/goods/lamp/orders/2", ""),
        (Method::GET, "/goods/lamp", ""),
        (Method::GET, "/goods", ""),
        (Method::DELETE, "/goods/lamp", ""),
        (Method::GET, "/goods/lamp", ""),
    ] {
        println!("{}", ask(&app, method, path, body).await?);
    }
    let _held = pool.get().await?; // another caller has the only connection
    println!("{}", ask(&app, Method::GET, "/goods", "").await?);
    Ok(())
}

async fn ask(app: &Router, method: Method, path: &str, body: &str) -> Result<String, Box<dyn std::error::Error>> {
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))?;
    let response = app.clone().oneshot(request).await?;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1024).await?;
    Ok(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&body))
        .trim_end()
        .to_owned())
}
