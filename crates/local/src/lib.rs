//! Private PostgreSQL and Redis servers, Redis Clusters among them, started from the binaries installed on this machine,
//! and a [`Proxy`] to disturb the way to them.
//!
//! For development (`cenote serve` without a database) and for tests that need a real server they can crash, freeze
//! and restart. Nothing is downloaded, no server of the machine is touched, and every server has its own port, its own
//! random password and its own directories, readable by nobody else.
//!
//! ```no_run
//! # async fn example() -> Result<(), cenote_local::Error> {
//! use cenote_local::PostgresServer;
//!
//! let server = PostgresServer::temporary().setting("max_connections", "20").start().await?;
//! println!("{}", server.url()); // postgresql://cenote:…@127.0.0.1:port/cenote
//! server.kill().await?; // as a crash
//! server.restart().await?; // same port, same data
//! # Ok(())
//! # }
//! ```
//!
//! The one invariant: **a server never outlives its owner.** When the handle is dropped, or the owning process ends in
//! whatever way, SIGKILL included, a small supervisor stops the server and removes its temporary directory.
//!
//! PostgreSQL refuses to run as root. Under root everything runs as `postgres`, or else as `nobody`.
//!
//! Unix only (Linux and macOS). The functions need a tokio runtime with I/O and time enabled.

mod account;
mod binaries;
mod cluster;
mod directory;
mod error;
mod instance;
mod port;
mod postgres;
mod process;
mod proxy;
mod redis;
mod supervisor;

pub use directory::default_data_dir;
pub use error::Error;
pub use postgres::{PostgresBuilder, PostgresServer, ReplicaBuilder};
pub use proxy::{Direction, Proxy, ProxyCounts};
pub use redis::{RedisBuilder, RedisCluster, RedisClusterBuilder, RedisServer};

/// What every fallible function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
