//! A pool as the state of an axum application, and a connection as an extractor.
//!
//!     cargo run --example axum_state
//!
//! A handler that takes a [`Connection`] runs only once it has one. If the pool has none in time, the client gets 503
//! with a problem (RFC 9457) that says so.

use std::{error::Error, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRef, FromRequestParts, Path},
    http::{Request, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use cenote_postgres::{Config, OwnedPooled, Pool};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A connection for one request. It is returned when the handler drops it. If the client leaves, the handler is dropped
/// too, and a statement that still runs is cancelled on the server.
struct Connection(OwnedPooled);

impl<S> FromRequestParts<S> for Connection
where
    Pool: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pool = Pool::from_ref(state);
        // The error has the state of the pool, which is for the log and not for the client.
        match pool.get_owned().await {
            Ok(connection) => Ok(Self(connection)),
            Err(error) => {
                eprintln!("{error}");
                Err(Problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no database connection in time",
                ))
            }
        }
    }
}

/// An error as the client sees it.
struct Problem(StatusCode, &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let title = status.canonical_reason();
        let body = json!({ "status": status.as_u16(), "title": title, "detail": detail });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, body.to_string()).into_response()
    }
}

impl From<cenote_postgres::Error> for Problem {
    fn from(error: cenote_postgres::Error) -> Self {
        eprintln!("{error}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "the database refused")
    }
}

async fn square(Connection(connection): Connection, Path(number): Path<i64>) -> Result<Json<Value>, Problem> {
    let row = connection.query_one("SELECT $1::bigint * $1", &[&number]).await?;
    let square: i64 = row.get(0);
    Ok(Json(json!({ "square": square })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = cenote_examples::database().await?;
    let mut config = Config::from_url(database.url())?;
    config.pool.max_size = 1;
    config.pool.min_size = Some(1);
    // Shorter than the timeout of the client, so that the client gets an answer.
    config.pool.acquire_timeout = Duration::from_millis(500);
    let pool = Pool::new(config)?;

    let app = Router::new()
        .route("/squares/{number}", get(square))
        .with_state(pool.clone());
    // A program would now call `axum::serve(listener, app)`; this example sends the requests itself.

    println!("{}", ask(&app).await?);
    let held = pool.get().await?; // another caller has the only connection
    println!("{}", ask(&app).await?);
    drop(held);
    println!("{}", ask(&app).await?);

    pool.close().await;
    Ok(())
}

async fn ask(app: &Router) -> Result<String, Box<dyn Error>> {
    let request = Request::get("/squares/7").body(Body::empty())?;
    let response = app.clone().oneshot(request).await?;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1024).await?;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
