//! Where the examples find a database. Invariant: one that was started for an example ends with
//! it.

use cenote_local::{Error, PostgresServer};

/// The database of `DATABASE_URL`, or else a private one.
#[derive(Debug)]
pub struct Database {
    url: String,
    _private: Option<PostgresServer>,
}

impl Database {
    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The database that the environment variable `DATABASE_URL` names; without it a private one,
/// empty and gone when the value is dropped.
///
/// # Errors
///
/// There is no PostgreSQL on this machine, or it does not start.
pub async fn database() -> Result<Database, Error> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        let _private = None;
        return Ok(Database { url, _private });
    }
    let server = PostgresServer::temporary().start().await?;
    Ok(Database {
        url: server.url(),
        _private: Some(server),
    })
}
