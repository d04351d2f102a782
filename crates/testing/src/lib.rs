//! What the tests of this workspace start and disturb: private Redis servers and Redis Clusters, replicas of a private
//! PostgreSQL server, a [`Proxy`] that disturbs connections, certificates, reference implementations in Python, and
//! helper processes. No program that users run depends on this crate.
//!
//! The one invariant: **a server never outlives its owner**, as in `cenote-local`, on which this crate is built.
//!
//! Unix only (Linux and macOS). The functions need a tokio runtime with I/O and time enabled.

#![warn(clippy::significant_drop_tightening)]

mod authority;
mod error;
mod helper;
mod oracle;
mod proxy;
mod redis;
mod replica;
mod secrets;

pub use authority::Authority;
pub use error::{Error, Result};
pub use helper::{HELPER, ask, eventually, helper, printed, psql, runs, start_helper};
pub use oracle::Oracle;
pub use proxy::{Direction, Proxy, ProxyCounts};
pub use redis::{RedisBuilder, RedisCluster, RedisClusterBuilder, RedisServer};
pub use replica::{ReplicaBuilder, Replication};
pub use secrets::{hides, hides_with_sources};
