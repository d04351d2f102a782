//! Where the examples find their databases. Invariant: what was started for an example ends with
//! it.

use cenote_local::{Error, PostgresServer};
use cenote_testing::Replication;

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

/// A primary and its replica, under one URL that names both.
#[derive(Debug)]
pub struct Servers {
    url: String,
    private: Option<(PostgresServer, PostgresServer)>,
}

impl Servers {
    /// Where they are.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the replica if it is a private one; false if it is not.
    ///
    /// # Errors
    ///
    /// It does not stop.
    pub async fn stop_replica(&self) -> Result<bool, Error> {
        if let Some((_, replica)) = &self.private {
            replica.stop().await?;
        }
        Ok(self.private.is_some())
    }
}

/// The servers that the environment variable `DATABASE_URL` names; without it a private pair.
///
/// # Errors
///
/// As [`database`].
pub async fn primary_and_replica() -> Result<Servers, Error> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok(Servers { url, private: None });
    }
    let primary = PostgresServer::temporary().start().await?;
    let replica = primary.replica().start().await?;
    // The replica is a copy: the same users, passwords and databases at another port.
    let (here, there) = (address(primary.port()), address(replica.port()));
    Ok(Servers {
        url: primary.url().replace(&here, &format!("{here},{there}")),
        private: Some((primary, replica)),
    })
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
