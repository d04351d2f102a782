//! What Redis answers, and what to call an answer that cannot be right or does not come. Invariant: none.

use std::io;

use bytes::Bytes;
use redis::{ErrorKind, RedisError, Value};

/// The bytes of an answer, if it has any.
pub(crate) fn bytes(answer: Value) -> Option<Bytes> {
    match answer {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

/// The error of a server that does not do what the protocol needs.
pub(crate) fn protocol(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}

/// The error of a server that does not answer in time.
pub(crate) fn timed_out() -> RedisError {
    RedisError::from(io::Error::from(io::ErrorKind::TimedOut))
}
