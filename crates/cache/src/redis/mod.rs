//! All I/O with Redis: from a URL to a session, and from a read or write to a pipeline. Invariant: nothing here reconnects: a
//! failure ends the session, and `modes::reconnect` opens another.

pub(crate) mod check;
pub(crate) mod current_session;
pub(crate) mod ids;
pub(crate) mod key_count;
pub(crate) mod keyspace;
pub(crate) mod problem;
pub(crate) mod reports;
pub(crate) mod script_connection;
pub(crate) mod session;
pub(crate) mod tracking;

mod breaker;
mod command;
mod connection;
mod errors;
mod node_connection;
mod server;
mod sightings;
mod tls;
mod topology;
mod worker;
