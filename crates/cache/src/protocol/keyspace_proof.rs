//! The proof that a session leads to the trusted keyspace. Invariant: a proof is found only where the cells of its epoch are,
//! and put back only where it was.
//!
//! Before a keyspace is trusted, the proof is written there: a cell whose name cannot be guessed. It holds the identity of the
//! server. So it is not found in another database, under another prefix or on another server, and a copy of it in a snapshot or
//! a replica names another run.

use std::time::Duration;

use crate::protocol::{epoch::Nonce, hex::hex};

/// The identity of one run of a server as a primary. For a cluster, a digest of those of all primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(pub(crate) [u8; 20]);

/// How long an unused proof stays in Redis.
pub(crate) const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// The bytes of a nonce in the key of each cell: enough that no two epochs share a cell, even those of two databases. The rest
/// stays out of them, so that the key of a cell, which may be logged, does not give the proof away.
const IN_NAMES: usize = 8;

/// The proof on one server.
pub(crate) struct KeyspaceProof {
    pub(crate) key: Vec<u8>,
    pub(crate) holds: Identity,
}

/// The key of a proof. It is not the key of a cell, because no cache has an empty name.
pub(crate) fn key(prefix: &str, epoch: u64, nonce: Nonce) -> String {
    format!("{prefix}::proof:{epoch}:{}", hex(&nonce.0))
}

/// The prefix of the keys of a cache's cells.
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
