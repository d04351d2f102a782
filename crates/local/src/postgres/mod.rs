//! A private PostgreSQL server: which installation it runs, where its data come from, how it starts, and its handle.
//!
//! The one invariant: it accepts connections on 127.0.0.1 and on a Unix socket only, and both ask for a password.

mod builder;
mod installation;
mod options;
mod pgdata;
mod server;

pub use builder::PostgresBuilder;
pub use server::PostgresServer;
