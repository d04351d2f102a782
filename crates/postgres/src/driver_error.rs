//! Puts an error into the driver's error type, and finds it again.
//!
//! Code that was written or generated for the driver returns `tokio_postgres::Error`, which nobody else can create.
//!
//! Invariant: what is put in comes out unchanged.

use std::{
    error::Error,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Config, NoTls, config::SslMode};

/// Returns an error of the driver whose cause is an I/O error around this one.
pub(crate) fn around(kind: io::ErrorKind, error: impl Error + Send + Sync + 'static) -> tokio_postgres::Error {
    // The driver creates it: it connects over a stream that fails with this error.
    let mut config = Config::new();
    config.user("nobody").ssl_mode(SslMode::Disable);
    let connecting = pin!(config.connect_raw(Failing(Some(io::Error::new(kind, error))), NoTls));
    match connecting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => error,
        _ => unreachable!("BUG: the driver connected over a stream that fails at once"),
    }
}

/// Returns the error that [`around`] put into this one.
pub(crate) fn inside<E: Error + Send + Sync + 'static>(error: &tokio_postgres::Error) -> Option<&E> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

/// A stream that fails with its error, and from then on without one.
struct Failing(Option<io::Error>);

impl Failing {
    fn fail<T>(&mut self) -> Poll<io::Result<T>> {
        Poll::Ready(Err(self.0.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fail()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("too late by {0} s")]
    struct TooLate(u32);

    #[test]
    fn an_error_put_into_the_drivers_comes_out_unchanged() {
        let around = around(io::ErrorKind::TimedOut, TooLate(3));
        assert_eq!(inside(&around), Some(&TooLate(3)));
        assert_eq!(
            cenote_pool::Chain(&around).to_string(),
            "error communicating with the server: too late by 3 s"
        );
    }

    #[test]
    fn the_drivers_own_errors_hold_none() {
        let own = "host="
            .parse::<Config>()
            .and("port=none".parse::<Config>())
            .unwrap_err();
        assert_eq!(inside::<TooLate>(&own), None);
    }
}
