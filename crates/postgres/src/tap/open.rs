//! Logs in over a connected stream and spawns the connection's driver. Invariant: the stream is followed from its first
//! byte.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Client, Config, tls::TlsStream};

use super::{
    link::Link,
    status::Status,
    stream::{AlreadyEncrypted, Tap, is_not_postgres},
};
use crate::server_role::ServerRole;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The server did not finish the login in time.
    #[error("the server did not finish the start-up in time")]
    Timeout,
    /// The answer is not PostgreSQL's.
    #[error("the server is not PostgreSQL")]
    NotPostgres,
    /// The server refused, or the stream failed.
    #[error(transparent)]
    Postgres(tokio_postgres::Error),
}

/// An open connection.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) link: Link,
    /// The role of the server, if it reports it when a session starts.
    pub(crate) role: Option<ServerRole>,
}

/// Logs in over a `stream` that is connected, and encrypted if it should be. Spawns the driver on the current runtime.
///
/// # Cancel safety
/// Dropping the future closes the stream. The server process ends when it notices.
pub(crate) async fn open<S>(stream: S, config: &Config, deadline: Instant) -> Result<Opened, OpenError>
where
    S: TlsStream + Unpin + Send + 'static,
{
    let mut config = config.clone();
    AlreadyEncrypted::tell(&mut config);
    let status = Arc::new(Status::new());
    let tap = Tap::new(stream, Arc::clone(&status));
    let connected = timeout_at(deadline, config.connect_raw(tap, AlreadyEncrypted)).await;
    let (client, connection) =
        connected
            .map_err(|_| OpenError::Timeout)?
            .map_err(|error| match is_not_postgres(&error) {
                true => OpenError::NotPostgres,
                false => OpenError::Postgres(error),
            })?;
    let role = ServerRole::reported(|name| connection.parameter(name));
    let link = Link::spawn(connection, status);
    Ok(Opened { client, link, role })
}
