//! Checks the coherence of services as they are run: processes of the built program over a private PostgreSQL and Redis,
//! many clients, and a fault in the middle. What the clients saw is judged by
//! [`cenote_cache::history`]. Invariant: what a client was not told for certain is taken to be possible at any time.
//!
//! A [`Trial`] is one mode under one fault; [`report`] puts what came out into words.

mod fault;
mod mode;

mod client;
mod downtime;
mod keyspace;

mod record;

mod load;
mod measure;
mod service;

mod world;

mod strike;

mod trial;

pub mod report;

pub use fault::Fault;
pub use mode::Mode;
pub use trial::{Limits, Outcome, Trial};

/// Why a trial could not be carried out.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What every fallible function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
