//! The rules of the protocol, as functions without I/O that take the time as an argument: `tests/model` explores these very
//! functions. Invariant: nothing here depends on Redis, PostgreSQL, tokio or a clock.

pub(crate) mod arguments;
pub mod cell;
pub mod epoch;
pub mod freshness;
pub(crate) mod hex;
pub(crate) mod keyspace_proof;
pub mod script_semantics;
pub mod scripts;
pub mod time;
