//! A private PostgreSQL server, started from the programs installed on this machine.
//!
//! For development (`cenote serve` without a database), and for tests that need a real server they can crash, freeze
//! and restart. It downloads nothing and touches no other server. Each server has its own port, its own random password
//! and its own directories, which only the account that runs the server can read.
//!
//! ```no_run
//! # async fn example() -> Result<(), cenote_local::Error> {
//! use cenote_local::PostgresServer;
//!
//! let server = PostgresServer::temporary().setting("max_connections", "20").start().await?;
//! println!("{}", server.url()); // postgresql://cenote:…@127.0.0.1:port/cenote
//! server.kill().await?; // like a crash
//! server.restart().await?; // same port, same data
//! # Ok(())
//! # }
//! ```
//!
//! The one invariant: **a server never outlives its owner.** When the handle is dropped, or when the owning process
//! ends in any way, including SIGKILL, a small supervisor stops the server and removes its temporary directory.
//!
//! PostgreSQL refuses to run as root. If this process is root, the server runs as the user `postgres`, or as `nobody`
//! if there is no such user.
//!
//! Unix only (Linux and macOS). The functions need a tokio runtime with I/O and time enabled.

#![warn(clippy::significant_drop_tightening)]

mod error;
mod postgres;
pub mod supervise;

pub use error::{Error, Result};
pub use postgres::{PostgresBuilder, PostgresServer};
pub use supervise::default_data_dir;
