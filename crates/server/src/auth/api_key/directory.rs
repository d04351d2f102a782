//! The keys that were looked up lately, in memory.
//!
//! Invariant: a key is valid only while the database has confirmed all known keys lately, and it never outlives its expiry.
//! Everything here is bounded, and no request waits.
//!
//! Requests of all cores read the known keys and write nothing that they share. A change copies the whole map: one key is
//! added at most 20 times a second, and 10,000 keys are copied in some 100 microseconds.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::digest::KeyDigest;
use crate::{
    auth::{
        clock::Now,
        fingerprint::{ByFingerprint, Fingerprint, FingerprintHash, by_fingerprint},
        identity::Identity,
        outcome::Outcome,
    },
    per_thread::PerThread,
};

/// Most known keys.
const KNOWN: usize = 10_000;
/// Most refused keys that are remembered, and for how long.
const REFUSED: usize = 4_096;
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How often the use of one key is noted in the database.
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// A confirmation is never too old before this time, whatever `AUTH_STALE` is: the database is asked twice a second, and
/// one answer may be late.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// For [`KnownKey::noted`].
const NEVER: u64 = u64::MAX;

/// A key that the database has.
#[derive(Debug)]
pub(super) struct KnownKey {
    /// By which the database knows it.
    digest: KeyDigest,
    identity: Identity,
    identities: PerThread<Arc<Identity>>,
    /// Seconds since 1970.
    pub(super) expires: Option<i64>,
    /// Changes with the row.
    pub(super) stamp: i64,
    /// Whether it was used since its use was last noted. The other field says when that was.
    used: AtomicBool,
    noted: AtomicU64,
}

impl KnownKey {
    pub(super) fn new(digest: KeyDigest, identity: Identity, expires: Option<i64>, stamp: i64) -> Self {
        Self {
            digest,
            identity,
            identities: PerThread::default(),
            expires,
            stamp,
            used: AtomicBool::new(false),
            noted: AtomicU64::new(NEVER),
        }
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        self.identities.get(|| Arc::new(self.identity.clone())).clone()
    }
}

/// What is known about a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Valid(Arc<Identity>),
    Refused(Outcome),
    /// [`Keys::resolve`](super::Keys::resolve) asks the database.
    Unknown,
}

type KnownKeys = HashMap<Fingerprint, Arc<KnownKey>, FingerprintHash>;

/// The known and the refused keys.
#[derive(Debug)]
pub(super) struct Directory {
    known: ArcSwap<KnownKeys>,
    /// Most of them. Another one replaces a quarter of them, first those that are not in use.
    room: usize,
    refused: ByFingerprint<(Outcome, Instant)>,
    /// The zero of the times below, which are in milliseconds.
    started: Instant,
    /// When the database last confirmed the known keys. Relaxed: it guards no memory.
    confirmed: AtomicU64,
    /// How old a confirmation may be, in milliseconds. Relaxed: it guards no memory.
    patience: AtomicU64,
}

impl Directory {
    /// Known keys go on for `stale` after the database was last reached.
    pub(super) fn new(stale: Duration, now: Instant) -> Self {
        Self::with_room(KNOWN, stale, now)
    }

    fn with_room(room: usize, stale: Duration, now: Instant) -> Self {
        Self {
            known: ArcSwap::default(),
            room,
            refused: by_fingerprint(REFUSED),
            started: now,
            confirmed: AtomicU64::new(0),
            patience: AtomicU64::new(patience(stale)),
        }
    }

    /// Lets known keys go on for another time after the database was last reached.
    pub(super) fn set_stale(&self, stale: Duration) {
        self.patience.store(patience(stale), Relaxed);
    }

    /// Looks a key up. A valid one counts as used.
    pub(super) fn get(&self, key: Fingerprint, now: Now) -> Found {
        if let Some(known) = self.known.load().get(&key) {
            if known.expires.is_some_and(|expires| now.unix >= expires) {
                return Found::Refused(Outcome::Expired);
            }
            if self.unconfirmed(now.instant) > Duration::from_millis(self.patience.load(Relaxed)) {
                return Found::Refused(Outcome::Unavailable);
            }
            // Written only when it changes: all cores share it.
            if !known.used.load(Relaxed) {
                known.used.store(true, Relaxed);
            }
            return Found::Valid(known.identity());
        }
        match self.refused.get(&key) {
            Some((outcome, at)) if now.instant.saturating_duration_since(at) < REFUSED_FOR => Found::Refused(outcome),
            _ => Found::Unknown,
        }
    }

    /// Adds a key that the database had at `asked`.
    pub(super) fn add(&self, key: Fingerprint, known: KnownKey, asked: Instant) {
        // No other key needs a confirmation.
        if self.known.load().is_empty() {
            self.confirm(asked);
        }
        let known = Arc::new(known);
        self.known.rcu(|keys| {
            let mut keys = KnownKeys::clone(keys);
            if keys.len() >= self.room {
                make_room(&mut keys, self.room - self.room / 4);
            }
            keys.insert(key, known.clone());
            keys
        });
    }

    /// Remembers that a key is not valid.
    pub(super) fn refuse(&self, key: Fingerprint, outcome: Outcome, now: Instant) {
        self.refused.insert(key, (outcome, now));
    }

    /// Forgets keys, so that their next use asks the database.
    pub(super) fn forget(&self, keys: &HashSet<KeyDigest>) {
        if !keys.is_empty() {
            self.known.rcu(|known| {
                let mut known = KnownKeys::clone(known);
                known.retain(|_, key| !keys.contains(&key.digest));
                known
            });
        }
    }

    /// The known keys with their stamps, for the database to confirm.
    pub(super) fn stamps(&self) -> Vec<(KeyDigest, i64)> {
        let known = self.known.load();
        known.values().map(|key| (key.digest, key.stamp)).collect()
    }

    /// Notes that the database confirmed the known keys when it was asked at `asked`.
    pub(super) fn confirm(&self, asked: Instant) {
        self.confirmed.fetch_max(self.millis(asked), Relaxed);
    }

    /// The time since the last confirmation.
    pub(super) fn unconfirmed(&self, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(self.confirmed.load(Relaxed)))
    }

    /// Takes the keys whose use should be noted now: each at most once a minute.
    pub(super) fn take_used(&self, now: Instant) -> Vec<KeyDigest> {
        let now = self.millis(now);
        let is_due = |key: &KnownKey| {
            let noted = key.noted.load(Relaxed);
            let due = noted == NEVER || now.saturating_sub(noted) >= USE_INTERVAL.as_millis() as u64;
            due && key.used.swap(false, Relaxed)
        };
        let known = self.known.load();
        let due = known.values().filter(|key| is_due(key));
        let noted = due.map(|key| {
            key.noted.store(now, Relaxed);
            key.digest
        });
        noted.collect()
    }

    /// The number of known keys.
    pub(super) fn len(&self) -> usize {
        self.known.load().len()
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Forgets keys until as many are left, first those that were not used since their use was last noted.
fn make_room(keys: &mut KnownKeys, left: usize) {
    let mut surplus = keys.len().saturating_sub(left);
    for unused in [true, false] {
        keys.retain(|_, key| {
            let is_kept = surplus == 0 || (unused && key.used.load(Relaxed));
            surplus -= usize::from(!is_kept);
            is_kept
        });
    }
}

fn patience(stale: Duration) -> u64 {
    let patience = stale.max(LEAST_PATIENCE).as_millis();
    u64::try_from(patience).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scopes::Scopes;

    const STALE: Duration = Duration::from_secs(60);

    fn digest(n: u32) -> KeyDigest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        KeyDigest(bytes)
    }

    fn fingerprint(n: u32) -> Fingerprint {
        Fingerprint::of_number(n.into())
    }

    fn key(n: u32, expires: Option<i64>) -> KnownKey {
        KnownKey::new(digest(n), Identity::of_key(1, "ada", Scopes::ALL, None), expires, 7)
    }

    fn is_valid(found: &Found) -> bool {
        matches!(found, Found::Valid(_))
    }

    #[test]
    fn a_known_key_is_valid_until_it_expires_or_is_forgotten() {
        let now = Now::read();
        let directory = Directory::new(STALE, now.instant);
        assert_eq!(directory.get(fingerprint(1), now), Found::Unknown);
        directory.add(fingerprint(1), key(1, Some(now.unix + 10)), now.instant);
        let at = |seconds| Now {
            unix: now.unix + seconds,
            ..now
        };
        assert!(is_valid(&directory.get(fingerprint(1), at(9))));
        assert_eq!(directory.get(fingerprint(1), at(10)), Found::Refused(Outcome::Expired));
        directory.forget(&[digest(1)].into());
        assert_eq!(directory.get(fingerprint(1), now), Found::Unknown);
    }

    #[test]
    fn known_keys_go_on_without_the_database_for_the_time_that_is_set() {
        for (stale, patience) in [(STALE, STALE), (Duration::ZERO, LEAST_PATIENCE)] {
            let now = Now::read();
            let directory = Directory::new(stale, now.instant);
            directory.add(fingerprint(1), key(1, None), now.instant);
            let after = |time| Now {
                instant: now.instant + time,
                ..now
            };
            let moment = Duration::from_millis(1);
            assert!(is_valid(&directory.get(fingerprint(1), after(patience))));
            let refused = directory.get(fingerprint(1), after(patience + moment));
            assert_eq!(
                refused,
                Found::Refused(Outcome::Unavailable),
                "not 401: the key may be good"
            );
            directory.confirm(now.instant + patience);
            assert!(is_valid(&directory.get(fingerprint(1), after(2 * patience))));
        }
    }

    #[test]
    fn a_refused_key_is_remembered_for_ten_seconds() {
        let now = Now::read();
        let directory = Directory::new(STALE, now.instant);
        directory.refuse(fingerprint(1), Outcome::Unknown, now.instant);
        let after = |time| Now {
            instant: now.instant + time,
            ..now
        };
        let nearly = REFUSED_FOR - Duration::from_millis(1);
        assert_eq!(
            directory.get(fingerprint(1), after(nearly)),
            Found::Refused(Outcome::Unknown)
        );
        assert_eq!(directory.get(fingerprint(1), after(REFUSED_FOR)), Found::Unknown);
    }

    #[test]
    fn the_use_of_a_key_is_noted_once_a_minute() {
        let now = Now::read();
        let directory = Directory::new(STALE, now.instant);
        directory.add(fingerprint(1), key(1, None), now.instant);
        directory.add(fingerprint(2), key(2, None), now.instant);
        assert!(directory.take_used(now.instant).is_empty(), "none was used");
        let _valid = directory.get(fingerprint(1), now);
        assert_eq!(directory.take_used(now.instant), [digest(1)]);
        let _valid = directory.get(fingerprint(1), now);
        assert!(directory.take_used(now.instant + Duration::from_secs(59)).is_empty());
        assert_eq!(directory.take_used(now.instant + USE_INTERVAL), [digest(1)]);
    }

    #[test]
    fn the_directory_is_bounded() {
        let now = Now::read();
        let directory = Directory::with_room(100, STALE, now.instant);
        for n in 0..3 * REFUSED as u32 {
            directory.add(fingerprint(n), key(n, None), now.instant);
            directory.refuse(fingerprint(n), Outcome::Unknown, now.instant);
            assert!(is_valid(&directory.get(fingerprint(0), now)), "it is in use");
            assert!(directory.len() <= 100 && directory.refused.len() <= REFUSED);
        }
    }

    #[test]
    fn where_all_keys_are_in_use_some_make_room_and_are_looked_up_again() {
        let now = Now::read();
        let directory = Directory::with_room(100, STALE, now.instant);
        for n in 0..101 {
            directory.add(fingerprint(n), key(n, None), now.instant);
            assert!(is_valid(&directory.get(fingerprint(n), now)));
        }
        assert_eq!(directory.len(), 76);
    }
}
