//! The rules by which cenote caches rows of PostgreSQL in Redis and in process without ever answering with a value
//! that an acknowledged write has replaced.
//!
//! * [`cell`]: what Redis holds under a key: a value, a lease to load it, or a fence put up by writers.
//! * [`scripts`]: the five Lua scripts that change a cell, and [`transitions`], the same five as functions.
//!
//! Everything here is a function of its arguments: no I/O, and the time is passed in.

pub mod cell;

pub mod scripts;
pub mod transitions;
