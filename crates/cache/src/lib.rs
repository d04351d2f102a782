//! The rules by which cenote caches rows of PostgreSQL in Redis and in process without ever answering with a value
//! that an acknowledged write has replaced.
//!
//! * [`cell`]: what Redis holds under a key: a value, a lease to load it, or a fence put up by writers.
//! * [`scripts`]: the five Lua scripts that change a cell, and [`transitions`], the same five as functions.
//! * [`epoch`]: which Redis may be believed, and for how long an instance may act on knowing it.
//! * [`near`]: for how long a value kept in process is proven to be fresh enough.
//!
//! Everything here is a function of its arguments: no I/O, and the time is passed in. `tests/model` explores these very
//! functions, with crashes, lost messages, evictions, restarts and split brains in between; `docs/coherence.md` tells
//! the protocol they make up and what it promises.

pub mod cell;

pub mod scripts;
pub mod transitions;

pub mod moment;

pub mod epoch;
pub mod near;
