//! The databases of the examples.
//!
//! Invariant: a server that was started for an example ends with it.

#![warn(clippy::significant_drop_tightening)]

use cenote_local::{Error, PostgresServer};
use cenote_testing::Replication;

/// The database of `DATABASE_URL`, or a private one.
#[derive(Debug)]
pub struct Database {
    url: String,
    _private: Option<PostgresServer>,
}

impl Database {
    /// The URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The database that the environment variable `DATABASE_URL` names. If it is not set, an empty private database, which
/// ends when the value is dropped.
///
/// # Errors
///
/// PostgreSQL is not installed on this machine, or does not start.
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

/// A primary and its replica, under one URL that names both.
#[derive(Debug)]
pub struct Servers {
    url: String,
    private: Option<(PostgresServer, PostgresServer)>,
}

impl Servers {
    /// The URL that names both servers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the replica if it is a private one, and returns whether it is.
    ///
    /// # Errors
    ///
    /// The replica does not stop.
    pub async fn stop_replica(&self) -> Result<bool, Error> {
        if let Some((_, replica)) = &self.private {
            replica.stop().await?;
        }
        Ok(self.private.is_some())
    }
}

/// The servers that the environment variable `DATABASE_URL` names. If it is not set, a private primary and its replica.
///
/// # Errors
///
/// Like [`database`].
pub async fn primary_and_replica() -> Result<Servers, Error> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok(Servers { url, private: None });
    }
    let primary = PostgresServer::temporary().start().await?;
    let replica = primary.replica().start().await?;
    // The replica is a copy: it has the same users, passwords and databases on another port.
    let (here, there) = (address(primary.port()), address(replica.port()));
    Ok(Servers {
        url: primary.url().replace(&here, &format!("{here},{there}")),
        private: Some((primary, replica)),
    })
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
