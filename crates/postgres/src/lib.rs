//! Pooled PostgreSQL that never hands out a dirty connection.
//!
//! Built on [`tokio_postgres`] and [`cenote_pool`]. What it adds:
//!
//! * **Clean connections.** The pool follows the wire protocol of every connection, so at the
//!   moment one is returned it knows whether a transaction is open, a query is still running or the
//!   session was changed. What is clean is reused at once, without a round trip; what is not is
//!   rolled back, cancelled and reset first, or closed.
//! * **Command timeouts that end the command on the server too,** without ever cancelling the
//!   statement of whoever uses the connection next.
//! * **Honest errors.** [`Error::is_outcome_unknown`] tells a write that may have happened from one
//!   that did not; [`Pool::retry`] repeats only what certainly had no effect.
//! * **Savepoints, COPY, row streams, LISTEN,** each of which leaves its connection clean however it
//!   ends; a [`Listener`] never loses a notification without saying so.
//! * **One statement for many callers.** A [`Loader`] looks rows up by key, a [`Combiner`] commits writes in order, a
//!   [`Batcher`] does any such work: what comes while the database is busy goes together. Bounded queues, deadlines.
//! * **Pipelines:** [`Connection::pipeline`] sends several statements in one round trip.
//! * **Statement cache, health states, statistics,** a pool that explains itself when it is
//!   exhausted.
//!
//! ```no_run
//! use cenote_postgres::{Config, Pool};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(Config::from_url("postgresql://localhost/shop")?)?;
//!
//! let connection = pool.get().await?;
//! let row = connection.query_one("SELECT count(*) FROM orders", &[]).await?;
//! let orders: i64 = row.get(0);
//! drop(connection);
//!
//! let mut connection = pool.get().await?;
//! let transaction = connection.transaction().await?;
//! transaction.execute("UPDATE stock SET pieces = pieces - 1 WHERE id = $1", &[&7i64]).await?;
//! transaction.commit().await?; // without this line it is rolled back
//! # Ok(())
//! # }
//! ```

mod credentials;
mod dns;
mod error;
mod mailbox;
mod role;
mod silence;
mod tls;

mod lexer;
mod side_effects;
mod staleness;
mod statements;
mod tap;
mod timer;
mod vigil;

mod url;

mod config;

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod handshake;
mod socket;
#[cfg(feature = "tls")]
mod verifier;

mod hosts;
mod known;
mod place;
mod router;

mod observer;

mod connection;
mod transaction;

mod manager;

mod listener;

mod capacity;
mod health;
mod pool;
mod retry;

mod batcher;
mod combiner;
mod loader;

pub use batcher::{Batch, Batcher, Calls, Limits, QueueStats, Spare, Weight};
pub use capacity::Capacity;
pub use cenote_pool::{Chain, Condition, ConnectError, HealthState, Histogram, Phase, Reason, Retired, Snapshot};
pub use combiner::{Combine, Combiner, Rows};
pub use config::{Config, InvalidConfig, Reset};
pub use connection::{Answer, Command, Connection, CopyIn, CopyOut, RowStream};
pub use credentials::Password;
pub use dns::Resolver;
pub use error::{ConnectionError, Error, Result, summarize};
pub use health::Health;
pub use listener::{Listener, ListenerOptions};
pub use loader::{Decoded, Loader, LoaderMany};
pub use mailbox::Event;
pub use manager::Postgres;
pub use pool::{OwnedPooled, Pool, Pooled, Stats};
pub use retry::Retry;
pub use role::TargetSession;
#[cfg(fuzzing)]
pub use side_effects::side_effects;
#[cfg(fuzzing)]
pub use tap::follow;
pub use tls::{ClientCertificate, Roots, Tls, Verify};
pub use tokio_postgres;
pub use transaction::{Isolation, Transaction, TransactionOptions};
pub use url::{ConnectionString, InvalidUrl, check_host};

/// Why no connection was to be had.
pub type AcquireError = cenote_pool::AcquireError<ConnectionError>;
