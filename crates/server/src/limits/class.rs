//! A class of requests: its limit, and the bucket of callers that find no room in the table.
//!
//! Invariant: that bucket admits at most [`UNTRACKED`] times what one caller may do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::gcra::Rate;
use super::limit::Limit;
use super::overrides::Overrides;
use super::policy::{MOST_WINDOWS, Policy};
use super::table::Windows;

/// Callers that find no room in the table share a bucket with this many times the quota of one.
const UNTRACKED: u64 = 16;

/// A class of requests.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: Box<str>,
    /// The number of the settings that its limit is from: a caller begins anew with another.
    pub(super) generation: u64,
    pub(super) limit: Limit,
    /// The bucket for each window that callers share who find no room in the table.
    untracked: Mutex<[u64; MOST_WINDOWS]>,
    pub(super) admitted: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Class {
    pub(super) fn new(name: &str, policy: &Policy, generation: u64) -> Self {
        Self {
            name: name.into(),
            generation,
            limit: Limit::new(name, policy.clone()),
            untracked: Mutex::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The class with another limit. Its counts go on.
    pub(super) fn with(&self, policy: &Policy, generation: u64) -> Self {
        Self {
            admitted: AtomicU64::new(self.admitted.load(Relaxed)),
            refused: AtomicU64::new(self.refused.load(Relaxed)),
            ..Self::new(&self.name, policy, generation)
        }
    }

    pub(super) fn limit<'a>(&'a self, overrides: Option<&'a Overrides>) -> &'a Limit {
        let own = overrides.and_then(|overrides| overrides.of(&self.name));
        own.unwrap_or(&self.limit)
    }

    /// Charges the bucket that callers without room share. Returns the windows that refuse, and how far ahead it lies.
    pub(super) fn charge_untracked(&self, rates: &[Rate], now: u64) -> (Windows, [u64; MOST_WINDOWS]) {
        // Nothing panics under the lock.
        let mut tats = self.untracked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ahead = tats.map(|tat| tat.saturating_sub(now));
        let shared = |rate: &Rate| Rate {
            interval: (rate.interval / UNTRACKED).max(1),
            ..*rate
        };
        let mut refused = Windows::default();
        for (window, rate) in rates.iter().map(shared).enumerate() {
            if !rate.admits(ahead[window]) {
                refused.insert(window);
            }
        }
        if refused.is_empty() {
            for (window, rate) in rates.iter().map(shared).enumerate() {
                ahead[window] = ahead[window].saturating_add(rate.interval);
                tats[window] = now.saturating_add(ahead[window]);
            }
        }
        drop(tats);
        (refused, ahead)
    }
}
