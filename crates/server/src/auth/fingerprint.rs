//! A key or token as this process knows it: by a fingerprint instead of its text.
//!
//! Invariant: two texts with one fingerprint cannot be found. The fingerprint is SipHash-2-4 of 128 bits under a random key
//! of this process, which never leaves it, so nobody outside can compute one. SHA-256, under which the database has a key,
//! takes 7 to 12 times as long on a processor without instructions for it, and every request would pay.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use quick_cache::{UnitWeighter, sync::Cache};
use siphasher::sip128::{Hash128, SipHasher24};

/// What stands for the text of a key or token in memory. Fingerprints are compared without care for time, because nobody can
/// choose their bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

#[cfg(test)]
impl Fingerprint {
    pub(super) fn of_number(n: u64) -> Self {
        Self(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n)
    }
}

/// Values by fingerprint, bounded.
pub(super) type ByFingerprint<V> = Cache<Fingerprint, V, UnitWeighter, FingerprintHash>;

/// Takes fingerprints. Those of two values differ.
pub(super) struct Fingerprints(SipHasher24);

impl Fingerprints {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self(SipHasher24::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }

    pub(super) fn of(&self, text: &[u8]) -> Fingerprint {
        let Hash128 { h1, h2 } = self.0.hash(text);
        Fingerprint(h1, h2)
    }
}

/// Its key is not to be seen.
impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A fingerprint is its own hash. Of other values it would be a poor one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FingerprintHash(u64);

impl BuildHasher for FingerprintHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for FingerprintHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A cache with room for this many values.
pub(super) fn by_fingerprint<V: Clone>(room: usize) -> ByFingerprint<V> {
    Cache::with(
        room,
        room as u64,
        UnitWeighter,
        FingerprintHash::default(),
        Default::default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_fingerprint_in_this_process_and_another_in_the_next() {
        let (this, next) = (Fingerprints::new(), Fingerprints::new());
        assert!(this.of(b"a") == this.of(b"a"));
        assert!(this.of(b"a") != this.of(b"b"));
        assert!(this.of(b"a") != next.of(b"a"));
    }

    #[test]
    fn neither_a_fingerprint_nor_its_key_is_in_debug_output() {
        let fingerprints = Fingerprints::new();
        assert_eq!(
            format!("{fingerprints:?} {:?}", fingerprints.of(b"a")),
            "Fingerprints Fingerprint"
        );
    }
}
