//! The tables of the service in the database. Invariant: however many instances start at once and wherever one is
//! killed, all of what is missing is added, once, or none of it; where nothing is missing, nothing is asked for that
//! only reading the catalog does not need.
//!
//! There is no history of migrations: the catalog itself is asked what is missing. So a database that others filled, or
//! that was restored from a part of a dump, needs no bookkeeping, and there is no table of versions that another
//! program could take for its own.

mod catalog;
mod migrate;
mod plan;

pub(crate) use migrate::{MigrateError, Migration, Waiting};
