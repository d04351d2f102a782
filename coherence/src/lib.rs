//! Checks the coherence of services as they are run: processes of the built program over a private PostgreSQL and Redis,
//! many clients, and a fault in the middle. What the clients saw is judged by
//! [`cenote_cache::history`]. Invariant: what a client was not told for certain is taken to be possible at any time.
//!
//! A [`Trial`] is one mode under one fault; [`report`] puts what came out into words.

mod error;
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

mod inject;

mod outcome;
mod trial;

pub mod report;

pub use error::{Error, Result};
pub use fault::Fault;
pub use mode::Mode;
pub use outcome::Outcome;
pub use trial::{Limits, Trial};
