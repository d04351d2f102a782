//! Why a request has no response. Invariant: no message holds a header, and so none holds credentials.

use std::{error::Error, io};

use axum::http;
use tokio_rustls::rustls::{self, pki_types::InvalidDnsNameError};

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the name in the URL cannot be in a certificate: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("TLS cannot be set up: {0}")]
    TlsConfig(rustls::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the request cannot be built: {0}")]
    Request(#[from] http::Error),
    #[error("the answer ended early, or is longer than {0} bytes")]
    Body(usize),
    #[error("nothing arrived for {0} s")]
    Silent(u64),
}

impl ClientError {
    /// Whether the server may have acted on the request.
    pub(crate) fn was_sent(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Body(_) | Self::Silent(_))
    }

    /// The failure of TLS behind the error. With TLS 1.3 a server that refuses the client's certificate says so only after
    /// the handshake.
    pub(crate) fn tls_failure(&self) -> Option<&rustls::Error> {
        match self {
            Self::Tls(error) => of_io(error),
            Self::Http(error) => {
                let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
                causes.find_map(|cause| cause.downcast_ref().and_then(of_io))
            }
            _ => None,
        }
    }
}

/// `io::Error::source` is the cause of the error inside, not that error itself.
fn of_io(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}
