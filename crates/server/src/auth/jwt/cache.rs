//! Tokens that were verified lately, because a signature costs more than the rest of a cached read.
//!
//! Invariant: a result is used only with the keys that gave it, and the times of a token are judged at each use. The cache
//! knows tokens only by their fingerprints, so a copy of it holds none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cenote_metrics::StripedCounters;
use quick_cache::{Lifecycle, UnitWeighter, sync::Cache};

use super::super::fingerprint::{ByFingerprint, Fingerprint, FingerprintHash, Fingerprints, by_fingerprint};
use super::super::outcome::Outcome;
use super::verifier::Verified;

/// Most tokens that are remembered.
const ACCEPTED: usize = 10_000;
/// Most wrong signatures that are remembered, and for how long.
const REFUSED: usize = 1_000;
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Of [`TokenCache::lookups`].
const HIT: usize = 0;
const MISS: usize = 1;

/// The results, each with the number of the keys that gave it. The number grows with each change of the keys.
#[derive(Debug)]
pub(super) struct TokenCache {
    fingerprints: Fingerprints,
    accepted: Cache<Fingerprint, (u64, Verified), UnitWeighter, FingerprintHash, CountEvictions>,
    refused: ByFingerprint<(u64, Instant)>,
    lookups: StripedCounters<2>,
    evictions: CountEvictions,
}

/// How often the cache was of use. Counters count from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenCacheStats {
    /// Tokens in the cache that were accepted.
    pub(crate) cached: usize,
    /// Look-ups that found the token, accepted or refused.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Accepted tokens that made room for others.
    pub(crate) evictions: u64,
}

/// Counts evictions.
#[derive(Clone, Debug, Default)]
struct CountEvictions(Arc<AtomicU64>);

impl<Key, Val> Lifecycle<Key, Val> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _key: Key, _val: Val) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl TokenCache {
    pub(super) fn new() -> Self {
        let evictions = CountEvictions::default();
        let (weighter, hasher) = (UnitWeighter, FingerprintHash::default());
        Self {
            fingerprints: Fingerprints::new(),
            accepted: Cache::with(ACCEPTED, ACCEPTED as u64, weighter, hasher, evictions.clone()),
            refused: by_fingerprint(REFUSED),
            lookups: StripedCounters::default(),
            evictions,
        }
    }

    /// What is known about a token with these keys.
    pub(super) fn get(&self, token: &str, keys: u64, now: Instant) -> Option<Result<Verified, Outcome>> {
        let found = self.find(&self.fingerprints.of(token.as_bytes()), keys, now);
        self.lookups.add(if found.is_some() { HIT } else { MISS }, 1);
        found
    }

    fn find(&self, token: &Fingerprint, keys: u64, now: Instant) -> Option<Result<Verified, Outcome>> {
        match self.accepted.get(token) {
            Some((of, verified)) if of == keys => return Some(Ok(verified)),
            _ => {}
        }
        match self.refused.get(token) {
            Some((of, at)) if of == keys && now.duration_since(at) < REFUSED_FOR => Some(Err(Outcome::Signature)),
            _ => None,
        }
    }

    pub(super) fn accept(&self, token: &str, keys: u64, verified: Verified) {
        self.accepted
            .insert(self.fingerprints.of(token.as_bytes()), (keys, verified));
    }

    /// Remembers that the signature is wrong. Other refusals are cheap, or depend on more than the keys.
    pub(super) fn refuse(&self, token: &str, keys: u64, now: Instant) {
        self.refused.insert(self.fingerprints.of(token.as_bytes()), (keys, now));
    }

    /// Frees the memory of results that the number of the keys has already made useless.
    pub(super) fn clear(&self) {
        self.accepted.clear();
        self.refused.clear();
    }

    pub(super) fn stats(&self) -> TokenCacheStats {
        TokenCacheStats {
            cached: self.accepted.len(),
            hits: self.lookups.total(HIT),
            misses: self.lookups.total(MISS),
            evictions: self.evictions.0.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::claims::ClaimRules;
    use super::*;

    fn verified() -> Verified {
        let rules = ClaimRules {
            issuer: None,
            audiences: Vec::new(),
            leeway: 0,
            scopes: None,
        };
        let (identity, lifetime) = rules.judge(&json!({"exp": 10})).unwrap();
        Verified {
            identity: Arc::new(identity),
            lifetime,
        }
    }

    #[test]
    fn a_result_of_other_keys_is_not_used() {
        let (cache, now) = (TokenCache::new(), Instant::now());
        let (good, bad) = ("good", "bad");
        cache.accept(good, 1, verified());
        cache.refuse(bad, 1, now);
        assert!(matches!(cache.get(good, 1, now), Some(Ok(_))));
        assert!(matches!(cache.get(bad, 1, now), Some(Err(Outcome::Signature))));
        assert!(cache.get(good, 2, now).is_none());
        assert!(cache.get(bad, 2, now).is_none());
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.cached), (2, 2, 1));
    }

    #[test]
    fn a_wrong_signature_is_remembered_for_ten_seconds() {
        let (cache, now) = (TokenCache::new(), Instant::now());
        let bad = "bad";
        cache.refuse(bad, 1, now);
        assert!(
            cache
                .get(bad, 1, now + REFUSED_FOR - Duration::from_millis(1))
                .is_some()
        );
        assert!(cache.get(bad, 1, now + REFUSED_FOR).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, now) = (TokenCache::new(), Instant::now());
        for n in 0..3 * ACCEPTED {
            cache.accept(&n.to_string(), 1, verified());
            cache.refuse(&n.to_string(), 1, now);
        }
        let stats = cache.stats();
        assert!(stats.cached <= ACCEPTED && cache.refused.len() <= REFUSED);
        assert_eq!(stats.cached as u64 + stats.evictions, 3 * ACCEPTED as u64);
    }
}
