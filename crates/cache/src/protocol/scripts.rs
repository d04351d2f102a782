//! The scripts that change cells. Invariant: each handles its keys one after the other, independently, and reads no clock, so it
//! also runs in a cluster with one key at a time. A repeated call does no harm.
//!
//! The last key is the proof of the keyspace, and the last argument is what it must hold; or the argument is empty and there is
//! no such key. If the proof does not match, a script does nothing and returns nil.
//!
//! Each source begins with its arguments and its answer. [`script_semantics`](super::script_semantics) has the same as functions
//! of one cell.

/// Reads a cell or, if it is empty, takes the lease to load it.
pub const LEASE: &str = include_str!("lua/lease.lua");

/// Fences a cell before a write, or joins its fence.
pub const FENCE: &str = include_str!("lua/fence.lua");

/// Removes a writer from a fence after its commit; the last one deletes the cell.
pub const RELEASE: &str = include_str!("lua/release.lua");

/// Stores a value from the database if the lease still stands, and otherwise removes what may be older.
pub const FILL: &str = include_str!("lua/fill.lua");

/// Deletes a cell whose row changed, unless it is fenced.
pub const INVAL: &str = include_str!("lua/inval.lua");

/// Looks for the proof of a keyspace, and puts it back if it certainly was there.
pub const PROVE: &str = include_str!("lua/prove.lua");
