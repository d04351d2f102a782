//! Checks the coherence of running services: processes of the built program over a private PostgreSQL and Redis, many
//! clients, and an injected fault. [`history`] checks what the clients saw. Invariant: a write of unknown
//! outcome may have taken effect at any time, or never.
//!
//! A [`Trial`] is one mode under one fault; [`report`] prints its outcome.

#![warn(clippy::significant_drop_tightening)]

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

pub mod history;
pub mod report;

pub use error::{Error, Result};
pub use fault::Fault;
pub use mode::Mode;
pub use outcome::Outcome;
pub use trial::{Limits, Trial};
