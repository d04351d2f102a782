//! A class of requests: its limit, and the bucket of callers that find no room in the table.
//!
//! Invariant: that bucket admits at most [`UNTRACKED`] times what one caller may do.

use std::sync::{Arc, Mutex, PoisonError};

use cenote_metrics::StripedCounters;

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
    pub(super) limit: Limit,
    /// The bucket for each window that callers share who find no room in the table.
    untracked: Mutex<[u64; MOST_WINDOWS]>,
    counts: Arc<Counts>,
}

/// How many requests were admitted, and how many refused.
#[derive(Debug, Default)]
struct Counts(StripedCounters<2>);

impl Class {
    pub(super) fn new(name: &str, policy: &Policy) -> Self {
        Self {
            name: name.into(),
            limit: Limit::new(name, policy.clone()),
            untracked: Mutex::default(),
            counts: Arc::default(),
        }
    }

    /// The class with another limit. Its counts go on.
    pub(super) fn with(&self, policy: &Policy) -> Self {
        Self {
            counts: Arc::clone(&self.counts),
            ..Self::new(&self.name, policy)
        }
    }

    pub(super) fn count(&self, is_admitted: bool) {
        self.counts.0.add(is_admitted.into(), 1);
    }

    pub(super) fn refused(&self) -> u64 {
        self.counts.0.total(0)
    }

    pub(super) fn admitted(&self) -> u64 {
        self.counts.0.total(1)
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
