//! A service written for sqlx, over cenote's pool for any kind of connection.
//!
//!     cargo run -p cenote-ecosystem --example sqlx_service
//!
//! Handlers keep sqlx's queries, transactions and errors. Instead of a `PgPool` they have a [`Shop`], and `&mut *connection` is
//! the executor. [`Sqlx`] tells the pool what it must know of a connection; a transaction that a handler leaves open is rolled back
//! before the next use.

use std::{error::Error, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{Method, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cenote_examples::database;
use cenote_pool::{AcquireError, Condition, Config, Manager, Pool, Reason};
use sqlx::{Connection, FromRow, PgConnection, postgres::PgConnectOptions};
use tower::ServiceExt;

/// Opens, checks, cleans and closes connections of sqlx.
struct Sqlx(PgConnectOptions);

impl Manager for Sqlx {
    type Connection = PgConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.0).await
    }

    fn inspect(&self, connection: &mut PgConnection) -> Condition {
        match connection.is_in_transaction() {
            true => Condition::Dirty,
            false => Condition::Unknown,
        }
    }

    async fn clean(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        // Sends what a dropped transaction left to be sent.
        connection.ping().await
    }

    async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        connection.ping().await
    }

    async fn close(&self, connection: PgConnection) {
        let _closed = connection.close().await;
    }
}

type Shop = Pool<Sqlx>;

#[derive(Debug)]
enum ShopError {
    NoConnection(AcquireError<sqlx::Error>),
    Sql(sqlx::Error),
}

impl From<AcquireError<sqlx::Error>> for ShopError {
    fn from(error: AcquireError<sqlx::Error>) -> Self {
        Self::NoConnection(error)
    }
}

impl From<sqlx::Error> for ShopError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        // All of it is for the log.
        eprintln!("{self:?}");
        match self {
            Self::Sql(sqlx::Error::RowNotFound) => (StatusCode::NOT_FOUND, "no such goods"),
            Self::Sql(sqlx::Error::Database(error)) if error.constraint().is_some() => {
                (StatusCode::CONFLICT, "the change contradicts data that is there")
            }
            Self::NoConnection(error) if error.reason() == Reason::Closed => {
                (StatusCode::SERVICE_UNAVAILABLE, "the service is shutting down")
            }
            Self::NoConnection(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database is busy"),
            Self::Sql(_) => (StatusCode::INTERNAL_SERVER_ERROR, "an internal error"),
        }
        .into_response()
    }
}

#[derive(FromRow, serde::Serialize)]
struct Goods {
    name: String,
    pieces: i64,
}

async fn show(State(shop): State<Shop>, Path(name): Path<String>) -> Result<Json<Goods>, ShopError> {
    let mut connection = shop.get().await?;
    let goods = sqlx::query_as("SELECT name, pieces FROM goods WHERE name = $1").bind(name);
    Ok(Json(goods.fetch_one(&mut *connection).await?))
}

async fn order(State(shop): State<Shop>, Path((name, pieces)): Path<(String, i64)>) -> Result<Json<Goods>, ShopError> {
    let mut connection = shop.get().await?;
    let mut transaction = connection.begin().await?;
    let taken = "UPDATE goods SET pieces = pieces - $2 WHERE name = $1 RETURNING name, pieces";
    let goods = sqlx::query_as(taken)
        .bind(name)
        .bind(pieces)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Json(goods))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = database().await?;
    let config = Config {
        min_size: Some(0),
        max_size: 1,
        acquire_timeout: Duration::from_secs(10),
        ..Config::default()
    };
    let shop = Pool::new(Sqlx(database.url().parse()?), config)?;
    let mut connection = shop.get().await?;
    let schema = "CREATE TABLE goods (name text PRIMARY KEY, pieces bigint NOT NULL CHECK (pieces >= 0));
        INSERT INTO goods VALUES ('lamp', 3)";
    sqlx::raw_sql(schema).execute(&mut *connection).await?;
    drop(connection);

    let service = Router::new()
        .route("/goods/{name}", get(show))
        .route("/goods/{name}/orders/{pieces}", post(order))
        .with_state(shop.clone());
    for (method, path) in [
        (Method::GET, "/goods/lamp"),
        (Method::POST, "/goods/lamp/orders/2"),
        (Method::POST, "/goods/lamp/orders/2"),
        (Method::GET, "/goods/lamp"),
        (Method::GET, "/goods/chair"),
    ] {
        let request = Request::builder().method(&method).uri(path).body(Body::empty())?;
        let answer = service.clone().oneshot(request).await?;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await?;
        println!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
    }
    println!("{} connect", shop.stats().connects);
    shop.close().await;
    Ok(())
}
