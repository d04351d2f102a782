//! What each connection of a pool is doing, for people who look at it. Invariant: plain data of one moment.

use crate::Holder;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is being opened.
    Connecting,
    /// It is ready for a caller.
    Idle,
    /// A caller holds it.
    InUse,
    /// It is being cleaned, or checked while nobody uses it.
    Cleaning,
    /// It is being closed.
    Closing,
}

/// One connection of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Tells the connections that exist at a time apart. It stays the same while the connection exists, and is small: a
    /// number that became free is used again.
    pub slot: usize,
    /// What it is doing.
    pub state: ConnectionState,
    /// Who holds it, while it is in use.
    pub holder: Option<Holder>,
}
