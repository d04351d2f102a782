//! What shows that a connection leads to the trusted keyspace. Invariant: a proof is found only where the cells of its
//! epoch are, and is put back only where it was.
//!
//! When a keyspace comes to be trusted, a cell is written there under a name that nobody can guess: the proof. It holds
//! the run of the server for which it was written. So it is not found in another database, under another prefix or on
//! another server, and what a snapshot or a replica has copied names another run.

use std::{
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};

use crate::epoch::Nonce;

/// One run of a server, for as long as it is a primary. For a cluster, a digest of those of all its primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(pub(crate) [u8; 20]);

/// How long a proof stays that nobody asks for any more.
pub(crate) const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// What of a nonce is in the name of each cell: enough that no two epochs share a cell, be they of one database or two.
const IN_NAMES: usize = 8;

/// The proof on one server.
pub(crate) struct Proof {
    pub(crate) key: Vec<u8>,
    pub(crate) holds: Identity,
}

/// Draws a nonce; `None` if the system has no randomness.
pub(crate) fn draw() -> Option<Nonce> {
    let mut nonce = [0; 20];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(Nonce(nonce))
}

/// The key of a proof. No cache can have an empty name, so it is no cell.
pub(crate) fn key(prefix: &str, epoch: u64, nonce: Nonce) -> String {
    format!("{prefix}::proof:{epoch}:{}", digits(&nonce.0))
}

/// What the keys of a cache's cells begin with.
pub(crate) fn cells(prefix: &str, cache: &str, nonce: Nonce) -> String {
    format!("{prefix}:{cache}:{}:", digits(&nonce.0[..IN_NAMES]))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _infallible = write!(digits, "{byte:02x}");
        digits
    })
}

/// What a server has told of its past when the proof was found there. If it still tells the same, no databases have been
/// swapped since. Empty if it does not tell.
pub(crate) type Marks = Vec<u8>;

/// Where this instance has last seen a proof. Outlasts links.
#[derive(Default)]
pub(crate) struct Sightings(Mutex<Option<Sighting>>);

struct Sighting {
    nonce: Nonce,
    servers: Vec<(Identity, Marks)>,
}

impl Sightings {
    /// Takes note of where all parts of a proof have been found together.
    pub(crate) fn note(&self, nonce: Nonce, servers: Vec<(Identity, Marks)>) {
        *self.last() = Some(Sighting { nonce, servers });
    }

    /// The marks of this run of a server when the proof was found there.
    pub(crate) fn marks(&self, nonce: Nonce, server: Identity) -> Option<Marks> {
        let last = self.last();
        let seen = last.as_ref().filter(|seen| seen.nonce == nonce)?;
        let (_, marks) = seen.servers.iter().find(|(run, _)| *run == server)?;
        Some(marks.clone())
    }

    /// Whether the keyspace of this nonce has ever been seen.
    pub(crate) fn include(&self, nonce: Nonce) -> bool {
        self.last().as_ref().is_some_and(|seen| seen.nonce == nonce)
    }

    fn last(&self) -> MutexGuard<'_, Option<Sighting>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_prefixes_caches_and_epochs_apart_and_hide_most_of_the_nonce() {
        let nonce = Nonce([0xab; 20]);
        assert_eq!(cells("app", "users", nonce), "app:users:abababababababab:");
        assert_eq!(key("app", 7, nonce), format!("app::proof:7:{}", "ab".repeat(20)));
        assert_ne!(draw(), draw());
    }

    #[test]
    fn only_the_marks_of_the_same_nonce_on_the_same_run_are_remembered() {
        let (one, other) = (Nonce([1; 20]), Nonce([2; 20]));
        let (here, there) = (Identity([1; 20]), Identity([2; 20]));
        let sightings = Sightings::default();
        assert_eq!(sightings.marks(one, here), None);
        sightings.note(one, vec![(here, b"7".to_vec())]);
        assert_eq!(sightings.marks(one, here), Some(b"7".to_vec()));
        assert_eq!(sightings.marks(one, there), None);
        assert_eq!(sightings.marks(other, here), None);
        assert!(sightings.include(one) && !sightings.include(other));
    }
}
