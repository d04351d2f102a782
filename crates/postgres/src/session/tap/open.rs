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
use crate::connect::role::ServerRole;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The server did not finish the start-up in time.
    #[error("the server did not finish the start-up in time")]
    Timeout,
    /// What answers does not speak PostgreSQL's protocol.
    #[error("what answers is not PostgreSQL")]
    NotPostgres,
    /// The server refused, or the stream failed.
    #[error(transparent)]
    Postgres(tokio_postgres::Error),
}

/// A connection that was opened.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) link: Link,
    /// What the server is, if it says so when a session starts.
    pub(crate) role: Option<ServerRole>,
}

/// Opens a connection over a `stream` already connected to the server, and
/// encrypted if it is to be, and spawns its driver on the current runtime.
///
/// # Cancel safety
/// Dropping the future closes the stream. The backend ends when it notices.
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
