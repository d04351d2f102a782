//! Pooled PostgreSQL that never hands out a dirty connection.
//!
//! Built on [`tokio_postgres`] and [`cenote_pool`], it adds:
//!
//! * **Clean connections.** The pool follows the wire protocol of every connection. When one is returned, it knows
//!   whether a transaction is open, a query is running or the session was changed. A clean connection is reused at
//!   once, without a round trip. Any other is rolled back, cancelled and reset first, or closed.
//! * **Command timeouts that end the command on the server too,** and never cancel a statement of the connection's next
//!   user.
//! * **Honest errors.** [`Error::is_outcome_unknown`] tells a write that may have happened from one that did not.
//!   [`Pool::retry`] repeats only work that certainly had no effect.
//! * **Savepoints, COPY, portals, row streams, LISTEN,** each of which leaves its connection clean, however it ends. A
//!   [`Listener`] never loses a notification without reporting it.
//! * **One statement for many callers.** A [`Loader`] looks rows up by key, a [`Combiner`] commits writes in order, a
//!   [`Batcher`] does any such work: requests that come while the database is busy go together. Queues are bounded, and
//!   callers can set deadlines.
//! * **Pipelines:** [`Connection::pipeline`] sends several statements in one round trip.
//! * **A statement cache, health states, statistics,** and a pool whose timeout errors explain what it was waiting for.
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

#![warn(clippy::significant_drop_tightening)]

mod batch;
mod capacity;
mod clorinde;
mod config;
mod config_libpq;
#[cfg(feature = "serde")]
mod config_serde;
#[cfg(feature = "serde")]
mod config_spelling;
mod connect;
mod connection_error;
mod driver_error;
mod error;
mod from_row;
mod health;
mod invalid_config;
mod last_failure;
mod listener;
mod metrics;
mod notification_queue;
mod pool;
mod pool_beside;
mod pool_operation;
mod pool_retries;
mod pool_statements;
mod pool_typed_rows;
mod retry;
mod runtime_liveness;
mod server_role;
mod session;
mod slow_statement;
mod tap;
mod timer;

pub use batch::batcher::{
    Batch, BatchCalls, BatchLimits, BatchSizes, Batcher, ByteBound, ExtraBatches, QueueStats, Weight,
};
pub use batch::combiner::{Combine, Combiner, Rows};
pub use batch::loader::{Decoded, Loader, LoaderMany};
pub use capacity::Capacity;
#[cfg(feature = "derive")]
pub use cenote_derive::FromRow;
pub use cenote_pool::{
    Chain, Condition, Config as PoolConfig, ConnectError, ConnectionInfo, ConnectionState, Decision, HealthState,
    Histogram, Holder, Limits, Metrics, Phase, Reason, Retired, Snapshot, Stats as PoolStats,
};
pub use config::{Config, Reset};
pub use connect::credentials::Password;
pub use connect::dns::Resolver;
pub use connect::failover_watch::HostState;
pub use connect::tls::{ClientCertificate, Roots, Tls, Verify};
pub use connect::url::{ConnectionString, check_host};
#[cfg(fuzzing)]
pub use connect::{passfile_password, service_options};
pub use connection_error::{AcquireError, ConnectionError, TOO_MANY_CONNECTIONS, summarize};
pub use error::{Error, Result};
pub use from_row::FromRow;
pub use health::Health;
pub use invalid_config::{InvalidConfig, InvalidUrl};
pub use listener::{Listener, ListenerOptions};
pub use metrics::NamedQueues;
pub use notification_queue::Event;
pub use pool::{Pool, Stats};
pub use retry::Retry;
pub use server_role::TargetSession;
pub use session::binary_copy::{BinaryCopyIn, BinaryCopyOut};
pub use session::commands::CommandOutput;
pub use session::connection::Connection;
pub use session::copy::{CopyIn, CopyOut};
pub use session::generic_client::GenericClient;
pub use session::hooks::Hooks;
pub use session::manager::{OwnedPooled, Pooled, Postgres};
pub use session::owned_stream::OwnedRowStream;
pub use session::pipeline::Command;
pub use session::portal::Portal;
pub use session::query_metrics::StatementStats;
#[cfg(fuzzing)]
pub use session::side_effects::side_effects;
pub use session::streams::RowStream;
pub use session::transaction::{Isolation, Transaction, TransactionOptions};
pub use slow_statement::{SlowStatement, SlowStatementHook};
#[cfg(fuzzing)]
pub use tap::follow;
pub use tokio_postgres;
