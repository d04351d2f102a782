//! Why a service cannot be built, or ended by itself.
//!
//! Invariant: `Display` says what failed and why, and names the settings that it depends on.

use std::io;

use super::{
    auth::{AuthError, Exposed},
    backend::DatabaseError,
    cache::CacheError,
    reach::Unusable,
};
use crate::{http::TlsError, open_files::TooFewOpenFiles};

/// Why a service cannot be built. `Display` says what failed and why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Failure);

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot listen on HOST {host:?}, PORT {port}: {error}")]
    Listen { host: String, port: u16, error: io::Error },
    #[error("cannot accept on the sockets of LISTEN_FDS: {0}")]
    PassedSockets(io::Error),
    #[error("TLS_CERT and TLS_KEY cannot be used: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot start a thread for each of HTTP_CORES: {0}")]
    Cores(io::Error),
    #[error("cannot start the export of traces: {0}")]
    Exporter(io::Error),
    #[error("too few open files are allowed: {0}")]
    OpenFiles(#[from] TooFewOpenFiles),
    #[error("no database: {0}")]
    Database(#[from] DatabaseError),
    #[error("REDIS_URL cannot be used: {0}")]
    Redis(CacheError),
    #[error("no cache: {0}")]
    Cache(CacheError),
    #[error("cannot write to AUDIT_LOG: {0}")]
    Audit(io::Error),
    #[error("{0}")]
    Exposed(Exposed),
    #[error("requests cannot be authenticated: {0}")]
    Auth(#[from] AuthError),
}

/// Why a service ended by itself. `Display` says what failed and why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Ended);

#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the database cannot be used: {0}")]
    Database(#[from] Unusable),
    #[error("cannot start: the start ended early")]
    Start,
    #[error("a serving thread has ended")]
    Core,
}
