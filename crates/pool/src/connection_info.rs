//! What each connection of a pool is doing, for people and hooks that look at it. Invariant: plain data of one moment.

use std::{sync::Arc, time::Duration};

use crate::Holder;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It is being opened.
    Connecting,
    /// It is ready for a caller.
    Idle,
    /// A caller holds it.
    InUse,
    /// It is being cleaned, in the hook after its release, or checked while nobody uses it.
    Cleaning,
    /// It is being closed.
    Closing,
}

/// One connection of a pool.
///
/// Its times are those of the pool's clock, which advances at least every second; with
/// [`Config::time_uses`](crate::Config::time_uses) at each acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Tells the connections that exist at a time apart. It stays the same while the connection exists, and is small: a
    /// number that became free is used again.
    pub slot: usize,
    /// What it is doing.
    pub state: ConnectionState,
    /// How long it has been open; while it is being opened, how long that has taken.
    pub age: Duration,
    /// How long it has been idle. Of a connection that is not idle: how long it was before its last use.
    pub idle: Duration,
    /// How often callers have taken it, the one that has it now included.
    pub uses: u64,
    /// What it leads to, such as a host, if its manager [says so](crate::Manager::peer).
    pub peer: Option<Arc<str>>,
    /// Who holds it, while it is in use.
    pub holder: Option<Holder>,
}

impl ConnectionInfo {
    /// Describes a connection that was opened at this moment and has not been used. For tests of code that reads such
    /// descriptions: a pool makes its own.
    pub fn new(slot: usize, state: ConnectionState) -> Self {
        Self {
            slot,
            state,
            age: Duration::ZERO,
            idle: Duration::ZERO,
            uses: 0,
            peer: None,
            holder: None,
        }
    }
}
