//! What shows that a connection leads to the trusted keyspace. Invariant: a proof is found only where the cells of its
//! epoch are, and is put back only where it was.
//!
//! When a keyspace comes to be trusted, a cell is written there under a name that nobody can guess: the proof. It holds
//! the run of the server for which it was written. So it is not found in another database, under another prefix or on
//! another server, and what a snapshot or a replica has copied names another run.

use std::time::Duration;

use crate::protocol::{epoch::Nonce, hex::hex};

/// One run of a server, for as long as it is a primary. For a cluster, a digest of those of all its primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(pub(crate) [u8; 20]);

/// How long a proof stays that nobody asks for any more.
pub(crate) const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// What of a nonce is in the name of each cell: enough that no two epochs share a cell, be they of one database or two.
const IN_NAMES: usize = 8;

/// The proof on one server.
pub(crate) struct KeyspaceProof {
    pub(crate) key: Vec<u8>,
    pub(crate) holds: Identity,
}

/// The key of a proof. No cache can have an empty name, so it is no cell.
pub(crate) fn key(prefix: &str, epoch: u64, nonce: Nonce) -> String {
    format!("{prefix}::proof:{epoch}:{}", hex(&nonce.0))
}

/// What the keys of a cache's cells begin with.
pub(crate) fn cells(prefix: &str, cache: &str, nonce: Nonce) -> String {
    format!("{prefix}:{cache}:{}:", hex(&nonce.0[..IN_NAMES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_prefixes_caches_and_epochs_apart_and_hide_most_of_the_nonce() {
        let nonce = Nonce([0xab; 20]);
        assert_eq!(cells("app", "users", nonce), "app:users:abababababababab:");
        assert_eq!(key("app", 7, nonce), format!("app::proof:7:{}", "ab".repeat(20)));
    }
}
