//! Errors for an answer that cannot be right or does not come. Invariant: each becomes a
//! [`RedisProblem`](crate::RedisProblem) of a kind that says so.

use std::io;

use redis::{ErrorKind, RedisError};

/// The server does not follow the protocol.
pub(crate) fn protocol(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}

/// The server does not answer in time.
pub(crate) fn timed_out() -> RedisError {
    RedisError::from(io::Error::from(io::ErrorKind::TimedOut))
}
