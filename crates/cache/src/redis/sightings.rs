//! Where this instance has last seen the proof of a keyspace. Invariant: a sighting is of one nonce, and newer ones replace
//! it as a whole. It outlasts sessions.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{epoch::Nonce, keyspace_proof::Identity};

/// What a server reported of its past when the proof was found there. If it reports the same later, no databases were swapped
/// in between. Empty if it reports nothing.
pub(crate) type Marks = Vec<u8>;

/// The newest sighting.
#[derive(Default)]
pub(crate) struct Sightings(Mutex<Option<Sighting>>);

struct Sighting {
    nonce: Nonce,
    servers: Vec<(Identity, Marks)>,
}

impl Sightings {
    /// Notes the servers on which all parts of a proof were found together.
    pub(crate) fn note(&self, nonce: Nonce, servers: Vec<(Identity, Marks)>) {
        *self.last() = Some(Sighting { nonce, servers });
    }

    /// The marks of this run of a server when the proof was found there.
    pub(crate) fn marks(&self, nonce: Nonce, server: Identity) -> Option<Marks> {
        let of_server = |seen: &Sighting| {
            let found = seen.servers.iter().find(|(run, _)| *run == server);
            found.map(|(_, marks)| marks.clone())
        };
        self.last()
            .as_ref()
            .filter(|seen| seen.nonce == nonce)
            .and_then(of_server)
    }

    /// Whether the keyspace of this nonce has ever been seen.
    pub(crate) fn include(&self, nonce: Nonce) -> bool {
        self.last().as_ref().is_some_and(|seen| seen.nonce == nonce)
    }

    fn last(&self) -> MutexGuard<'_, Option<Sighting>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_those_of_the_same_nonce_on_the_same_run() {
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
