//! The HTTP transport: sockets, connections, limits, errors and extractors under what is served, be it an axum router or not.
//!
//! Invariant: nothing a peer does, or leaves undone, holds a connection, a task or memory without a bound.
//!
//! The transport knows nothing of what is served. One task accepts for all cores: they get equally many connections,
//! and a port that somebody else serves is an error, as it would not be with a listening socket for each.

mod activity;
mod body;
mod config;
mod connection;
mod date;
mod edge;
mod explain;
mod extract;
mod fleet;
mod guard;
mod head;
mod listener;
mod media;
mod params;
mod problem;
mod refuse;
mod request_id;
mod request_log;
mod router;
mod server;
mod service;
mod stream;
mod watchdog;

pub use body::{BodyError, RequestBody};
pub use config::HttpConfig;
pub(crate) use edge::panic_text;
pub use extract::{Json, between, characters, entries, no_nul};
pub use fleet::Drained;
pub use listener::{Listeners, bind};
pub use params::{Key, Number, Path, Query, key_in, number};
pub use problem::{Cause, Member, Problem};
pub use router::with_fallbacks;
pub use server::{Core, serve};
pub use service::{Body, Service, Whole};
