//! The scripts that change cells. Invariant: each touches the keys it is given, one after the other and each as if it
//! were the only one, and reads no clock; so with one key it runs the same on a cluster. A repeated call does no harm.
//!
//! The last argument is what the proof of the keyspace must hold, and the last key the proof; or the argument is empty and
//! there is no such key. Where the proof holds anything else, nothing is done, and the answer is nil.
//!
//! Each source begins with its arguments and its answer. [`script_semantics`](super::script_semantics) has the same as functions of
//! one cell.

/// Reads a cell and, if there is none, takes the lease to load it.
pub const LEASE: &str = include_str!("lua/lease.lua");

/// Puts up a fence before a write, or joins the one that stands.
pub const FENCE: &str = include_str!("lua/fence.lua");

/// Takes a writer out of the fence after its commit; the last one deletes the cell.
pub const RELEASE: &str = include_str!("lua/release.lua");

/// Stores what was read from the database if the lease still stands, and otherwise removes what may be older.
pub const FILL: &str = include_str!("lua/fill.lua");

/// Deletes a cell because its row changed, unless it is fenced.
pub const INVAL: &str = include_str!("lua/inval.lua");

/// Looks for the proof of a keyspace, and puts it back where it certainly was.
pub const PROVE: &str = include_str!("lua/prove.lua");
