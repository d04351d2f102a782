//! An async connection pool, fast and fair under load, for any kind of connection.
//!
//! The pool knows nothing of SQL or sockets. A [`Manager`] opens, inspects, cleans and closes connections; the pool
//! decides who gets which one and when.
//!
//! * **Fair.** Callers are served strictly first come, first served. A released connection goes to the first waiter; a
//!   newcomer never overtakes it.
//! * **Bounded.** There are never more than `max_size + max_overflow` connections. One that is being closed counts
//!   until its close is confirmed or times out. The number of waiters is bounded too.
//! * **Clean.** The pool calls [`Manager::inspect`] at every release and every checkout. A connection that is not clean
//!   is cleaned or closed before anyone uses it again.
//! * **Extensible.** [`Hooks`] run when a connection is opened, acquired, released and closed.
//! * **Cancel safe.** Every future of this crate may be dropped at any await. Nothing leaks, and a connect under way
//!   goes on for the next caller.
//!
//! ```
//! use cenote_pool::{Config, Manager, Pool};
//!
//! struct Numbers(std::sync::atomic::AtomicU32);
//!
//! impl Manager for Numbers {
//!     type Connection = u32;
//!     type Error = std::io::Error;
//!     async fn connect(&self) -> Result<u32, std::io::Error> {
//!         Ok(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(Numbers(0.into()), Config { max_size: 4, ..Config::default() })?;
//! let number = pool.get().await?;
//! assert_eq!(*number, 0);
//! drop(number); // released
//! pool.close().await;
//! # Ok(())
//! # }
//! ```

#![warn(clippy::significant_drop_tightening)]

// In import order: a module uses only those above it.
mod any_error;
mod chain;
mod config;
mod manager;
mod retired;
mod shim;

mod caller;
mod connection_info;
mod counters;
mod stats;

mod hooks;
mod metrics;

mod error;
mod health;

mod codel;
mod forecast;
mod outage;
mod waiters;

mod slots;

mod delivery;
mod runtimes;
#[cfg(feature = "serde")]
pub mod serde_duration;

mod inner;

mod cleaning;
mod closing;
mod connecting;
mod release;

mod idle_review;

mod maintenance;

mod runtime_binding;

mod pool_state;

mod pooled;

mod acquire;

mod pool;

mod operation;

#[cfg(test)]
mod interleavings;

pub use cenote_metrics::{Histogram, Metrics, Value};

pub use any_error::AnyError;
pub use caller::{Acquisition, Holder};
pub use chain::Chain;
pub use config::{Config, InvalidConfig, Limits};
pub use connection_info::{ConnectionInfo, ConnectionState};
pub use error::{AcquireError, ConnectError, Phase, Reason, Snapshot};
pub use forecast::Forecast;
pub use health::HealthState;
pub use hooks::{Decision, HookFuture, Hooks};
pub use manager::{Condition, Manager};
pub use pool::Pool;
pub use pooled::{OwnedPooled, Pooled};
pub use retired::Retired;
pub use stats::Stats;
