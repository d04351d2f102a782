//! Connects to an address, encrypts the connection as `sslmode` asks, and logs in.
//!
//! Invariant: a connection is used without encryption only if `sslmode` allows it, and the fallbacks are libpq's.

use tokio::time::Instant;
use tokio_postgres::{Config, config::SslMode};

#[cfg(feature = "tls")]
use super::handshake::{Encryption, HandshakeError};
use super::{
    hosts::Target,
    socket::{Endpoint, Socket},
    tls::Tls,
};
use crate::{
    ConnectionError, InvalidConfig,
    tap::{self, Opened},
};

/// Connects to addresses and logs in.
#[derive(Debug)]
pub(crate) struct Dialer {
    server: Config,
    #[cfg(feature = "tls")]
    encryption: Option<Encryption>,
    /// [`Tls::plain_first`].
    plain_first: bool,
}

impl Dialer {
    /// # Errors
    ///
    /// A certificate or key cannot be used.
    pub(super) fn new(server: &Config, tls: &Tls) -> Result<Self, InvalidConfig> {
        Ok(Self {
            #[cfg(feature = "tls")]
            encryption: match server.get_ssl_mode() {
                SslMode::Disable => None,
                _ => {
                    let encryption = Encryption::new(tls, server);
                    Some(encryption.map_err(|error| InvalidConfig::Tls(error.to_string()))?)
                }
            },
            plain_first: tls.plain_first,
            server: server.clone(),
        })
    }

    /// Connects and logs in. Returns whether the session is encrypted.
    ///
    /// As in libpq, `sslmode=prefer` falls back to a plain connection, and `allow` to an encrypted one.
    pub(super) async fn start(
        &self,
        server: &tokio_postgres::Config,
        host: &Target,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(Opened, bool), ConnectionError> {
        let mode = match endpoint {
            Endpoint::Tcp(_) if cfg!(feature = "tls") => self.server.get_ssl_mode(),
            _ => SslMode::Disable,
        };
        let prefer = mode == SslMode::Prefer;
        if prefer && self.plain_first {
            match self.start_plain(server, host, endpoint, deadline).await {
                Err(error) if is_refused_by_hba(&error) => {}
                opened => return opened,
            }
        }
        match self.reach(host, endpoint, mode).await {
            Ok(socket) => {
                let is_encrypted = socket.is_encrypted();
                match self.log_in(socket, server, host, deadline).await {
                    Err(error) if prefer && is_encrypted && is_refused_by_hba(&error) => {}
                    opened => return Ok((opened?, is_encrypted)),
                }
            }
            Err(ConnectionError::Tls { .. }) if prefer => {}
            Err(error) => return Err(error),
        }
        self.start_plain(server, host, endpoint, deadline).await
    }

    async fn start_plain(
        &self,
        server: &tokio_postgres::Config,
        host: &Target,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<(Opened, bool), ConnectionError> {
        let socket = self.reach(host, endpoint, SslMode::Disable).await?;
        Ok((self.log_in(socket, server, host, deadline).await?, false))
    }

    /// Connects to an address of a host, without logging in.
    pub(crate) async fn reach(
        &self,
        host: &Target,
        endpoint: &Endpoint,
        mode: SslMode,
    ) -> Result<Socket, ConnectionError> {
        let socket = Socket::connect(endpoint, &self.server).await;
        let socket = socket.map_err(|cause| ConnectionError::unreachable(&host.shown, cause))?;
        match mode {
            SslMode::Disable => Ok(socket),
            _ => self.encrypt(host, socket, mode).await,
        }
    }

    #[cfg(feature = "tls")]
    async fn encrypt(&self, host: &Target, socket: Socket, mode: SslMode) -> Result<Socket, ConnectionError> {
        let (Socket::Tcp(stream), Some(encryption)) = (socket, &self.encryption) else {
            return Err(ConnectionError::not_encrypted(
                &host.shown,
                "only TCP connections can be",
            ));
        };
        match encryption.encrypt(stream, &host.name).await {
            Ok(encrypted) => Ok(Socket::Tls(Box::new(encrypted))),
            Err(HandshakeError::NotOffered(stream)) if mode == SslMode::Prefer => Ok(Socket::Tcp(stream)),
            Err(HandshakeError::Io(cause)) => Err(ConnectionError::unreachable(&host.shown, cause)),
            Err(HandshakeError::NotPostgres) => Err(ConnectionError::not_postgres(&host.shown)),
            Err(refused) => Err(ConnectionError::not_encrypted(&host.shown, &refused.to_string())),
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn encrypt(&self, host: &Target, _socket: Socket, _mode: SslMode) -> Result<Socket, ConnectionError> {
        Err(ConnectionError::not_encrypted(
            &host.shown,
            "this program was built without TLS",
        ))
    }

    async fn log_in(
        &self,
        socket: Socket,
        server: &tokio_postgres::Config,
        host: &Target,
        deadline: Instant,
    ) -> Result<Opened, ConnectionError> {
        let duplicate = socket
            .duplicate()
            .map_err(|cause| ConnectionError::unreachable(&host.shown, cause))?;
        let opened = tap::open(socket, server, deadline).await;
        match opened {
            Ok(opened) => {
                opened.link.set_socket(duplicate);
                Ok(opened)
            }
            Err(tap::OpenError::Timeout) => Err(ConnectionError::timed_out(&host.shown)),
            Err(tap::OpenError::NotPostgres) => Err(ConnectionError::not_postgres(&host.shown)),
            Err(tap::OpenError::Postgres(error)) => Err(ConnectionError::of_login(error, &host.shown)),
        }
    }
}

/// Whether the login failed with `no pg_hba.conf entry`. There may be an entry for connections with the other
/// encryption.
fn is_refused_by_hba(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Refused(refusal) if refusal.code().code() == "28000")
}
