//! Rate limits: how often a caller may do what.
//!
//! Invariant: a decision takes no allocation and waits for nothing but the lock of a few buckets. Refused requests consume
//! nothing. In any window at most its quota and burst are admitted, whatever core the requests arrive on.
//!
//! | To find | Look in |
//! |---|---|
//! | the text of a limit | `policy` |
//! | which requests a limit is for, and the limits of a key | `classes`, `overrides` |
//! | who is limited | `caller` |
//! | the arithmetic, and the buckets | `gcra`, `table` |
//! | headers and the 429 | `verdict`, and `limit` for what is prepared |

mod caller;
mod classes;
mod gcra;
mod limit;
mod overrides;
mod policy;
mod table;
mod verdict;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use tokio::time::Instant;

use self::gcra::Rate;
use self::limit::Limit;
use self::policy::MOST_WINDOWS;
use self::table::{Outcome, Table};
use self::verdict::HeaderStyle;
pub use self::{
    caller::Caller,
    classes::{Base, ClassId, InvalidClass, InvalidClasses, RouteClasses},
    overrides::{InvalidOverride, InvalidOverrides, Overrides},
    policy::{InvalidPolicy, Policy, Unit, Window},
    verdict::{HeadersOn, Verdict},
};

/// Callers that find no room in the table share a bucket with this many times the quota of one.
const UNTRACKED: u64 = 16;

/// The settings of the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Of requests that change nothing. Initially off.
    pub read: Policy,
    /// Of requests that change keys or users. Initially off.
    pub write: Policy,
    /// Of requests to administer the service. Initially off.
    pub admin: Policy,
    /// Of requests without valid credentials, by address. Initially `20/min`.
    pub auth_failures: Policy,
    /// Further classes. Initially none.
    pub classes: RouteClasses,
    /// The buckets in the table: one for each window of a limit that a caller has used lately. Initially 65,536.
    pub buckets: usize,
    /// How many leading bits of an IPv6 address stand for a caller: at most 128. Initially 64.
    pub ipv6_prefix: u8,
    /// Which responses tell the limits.
    pub headers: HeadersOn,
    /// Whether `X-RateLimit-…` headers are sent as well. Initially off.
    pub legacy_headers: bool,
}

/// Decides whether requests may be made. One for all cores.
#[derive(Debug)]
pub struct Limits {
    table: Table,
    /// SipHash with random keys: who chooses an address or a name must not be able to choose a place in the table.
    hasher: RandomState,
    classes: Box<[Class]>,
    routes: RouteClasses,
    ipv6_mask: u128,
    style: HeaderStyle,
    /// Where the monotonic time of the buckets begins.
    start: Instant,
    untracked: AtomicU64,
}

/// A class of requests.
#[derive(Debug)]
struct Class {
    name: Box<str>,
    limit: Limit,
    /// The bucket for each window that callers share who find no room in the table.
    untracked: Mutex<[u64; MOST_WINDOWS]>,
    refused: AtomicU64,
}

/// What the limits have done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStats {
    /// Refused requests of each class.
    pub refused: Vec<(String, u64)>,
    /// Requests of callers that found no room in the table.
    pub untracked: u64,
    /// Buckets in use, of callers that are not idle.
    pub buckets_in_use: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            read: Policy::OFF,
            write: Policy::OFF,
            admin: Policy::OFF,
            auth_failures: Policy::auth_failures(),
            classes: RouteClasses::default(),
            buckets: 65_536,
            ipv6_prefix: 64,
            headers: HeadersOn::All,
            legacy_headers: false,
        }
    }
}

impl Limits {
    /// Makes empty buckets. All memory is allocated here: 17 bytes for each bucket.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let base = |base| match base {
            Base::Read => &config.read,
            Base::Write => &config.write,
            Base::Admin => &config.admin,
            Base::AuthFailures => &config.auth_failures,
        };
        let bases = Base::ALL.map(|it| Class::new(it.name(), base(it)));
        let further = config.classes.iter().map(|(name, policy)| Class::new(name, policy));
        Self {
            table: Table::new(config.buckets),
            hasher: RandomState::new(),
            classes: bases.into_iter().chain(further).collect(),
            routes: config.classes.clone(),
            ipv6_mask: caller::ipv6_mask(config.ipv6_prefix),
            style: HeaderStyle {
                on: config.headers,
                legacy: config.legacy_headers,
            },
            start: Instant::now(),
            untracked: AtomicU64::new(0),
        }
    }

    /// Returns the class of a request: the first of the further classes whose route it matches, or else `base`.
    #[must_use]
    pub fn class_of(&self, method: &Method, path: &str, base: Base) -> ClassId {
        self.routes.class_of(method, path, base)
    }

    /// Whether requests of this class are not limited, but for callers with limits of their own.
    #[must_use]
    pub fn is_off(&self, class: ClassId) -> bool {
        self.classes[class.0].limit.rates.is_empty()
    }

    /// Charges a request of this class to its caller, if the limits admit it. `overrides` are the limits of the caller's
    /// key, in place of those of the settings.
    #[must_use]
    pub fn charge<'a>(
        &'a self,
        class: ClassId,
        caller: Caller,
        overrides: Option<&'a Overrides>,
        now: Instant,
    ) -> Verdict<'a> {
        let class = &self.classes[class.0];
        let limit = class.limit(overrides);
        if limit.rates.is_empty() {
            return self.unlimited(limit);
        }
        let (identity, now) = (self.identity(class, caller), self.nanoseconds(now));
        let decision = self.table.charge(identity, &limit.rates, now);
        let (is_refused, ahead) = match decision.outcome {
            Outcome::Admitted => (false, decision.ahead),
            Outcome::Refused => (true, decision.ahead),
            Outcome::NoRoom => {
                self.untracked.fetch_add(1, Relaxed);
                class.charge_untracked(&limit.rates, now)
            }
        };
        if is_refused {
            class.refused.fetch_add(1, Relaxed);
        }
        self.verdict(limit, ahead, is_refused)
    }

    /// Tells whether [`charge`](Self::charge) would admit a request, and charges nothing. For a class of which only some
    /// outcomes count, such as failed logins: a request is refused before its credentials are looked at if its address
    /// has failed too often, and charged when it fails.
    #[must_use]
    pub fn peek(&self, class: ClassId, caller: Caller, now: Instant) -> Verdict<'_> {
        let class = &self.classes[class.0];
        let limit = &class.limit;
        if limit.rates.is_empty() {
            return self.unlimited(limit);
        }
        let (identity, now) = (self.identity(class, caller), self.nanoseconds(now));
        let decision = self.table.peek(identity, &limit.rates, now);
        let is_refused = decision.outcome == Outcome::Refused;
        if is_refused {
            class.refused.fetch_add(1, Relaxed);
        }
        self.verdict(limit, decision.ahead, is_refused)
    }

    /// Returns what the limits have done so far. Takes a few hundred microseconds.
    #[must_use]
    pub fn stats(&self, now: Instant) -> LimitStats {
        let refused = |class: &Class| (class.name.to_string(), class.refused.load(Relaxed));
        LimitStats {
            refused: self.classes.iter().map(refused).collect(),
            untracked: self.untracked.load(Relaxed),
            buckets_in_use: self.table.in_use(self.nanoseconds(now)),
        }
    }

    fn identity(&self, class: &Class, caller: Caller) -> u64 {
        self.hasher.hash_one((&class.name, caller.masked(self.ipv6_mask)))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn unlimited<'a>(&self, limit: &'a Limit) -> Verdict<'a> {
        self.verdict(limit, [0; MOST_WINDOWS], false)
    }

    fn verdict<'a>(&self, limit: &'a Limit, ahead: [u64; MOST_WINDOWS], is_refused: bool) -> Verdict<'a> {
        Verdict {
            limit,
            ahead,
            is_refused,
            style: self.style,
        }
    }
}

impl Class {
    fn new(name: &str, policy: &Policy) -> Self {
        Self {
            name: name.into(),
            limit: Limit::new(name, policy.clone()),
            untracked: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    fn limit<'a>(&'a self, overrides: Option<&'a Overrides>) -> &'a Limit {
        let own = overrides.and_then(|overrides| overrides.of(&self.name));
        own.unwrap_or(&self.limit)
    }

    /// Charges the bucket that callers without room share. Returns whether it refuses, and how far ahead it lies.
    fn charge_untracked(&self, rates: &[Rate], now: u64) -> (bool, [u64; MOST_WINDOWS]) {
        // Nothing panics under the lock.
        let mut tats = self.untracked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ahead = tats.map(|tat| tat.saturating_sub(now));
        let shared = |rate: &Rate| Rate {
            interval: (rate.interval / UNTRACKED).max(1),
            ..*rate
        };
        let mut windows = rates.iter().map(shared).zip(&ahead);
        if !windows.all(|(rate, ahead)| rate.admits(*ahead)) {
            return (true, ahead);
        }
        for (window, rate) in rates.iter().map(shared).enumerate() {
            ahead[window] = ahead[window].saturating_add(rate.interval);
            tats[window] = now.saturating_add(ahead[window]);
        }
        drop(tats);
        (false, ahead)
    }
}

#[cfg(test)]
mod tests;
