//! The scripts that change a cell. Invariant: each touches the one key it is given and reads no clock, so it runs the
//! same on a single Redis and on a cluster; a repeated call does no harm.
//!
//! Each source begins with its arguments and its answer. [`transitions`](crate::transitions) has the same as functions.

/// Reads a cell and, if there is none, takes the lease to load it.
pub const LEASE: &str = include_str!("scripts/lease.lua");

/// Puts up a fence before a write, or joins the one that stands.
pub const FENCE: &str = include_str!("scripts/fence.lua");

/// Takes a writer out of the fence after its commit; the last one deletes the cell.
pub const RELEASE: &str = include_str!("scripts/release.lua");

/// Stores what was read from the database if the lease still stands, and otherwise removes what may be older.
pub const FILL: &str = include_str!("scripts/fill.lua");

/// Deletes a cell because its row changed, unless it is fenced.
pub const INVAL: &str = include_str!("scripts/inval.lua");
