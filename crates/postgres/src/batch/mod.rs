//! Serves the requests of many callers with one statement: the queue and its workers, and on top of them reads and
//! writes by key.
//!
//! Invariant: a caller gets the answer to its own request and to no other.

pub(crate) mod batcher;
pub(crate) mod combiner;
pub(crate) mod loader;
