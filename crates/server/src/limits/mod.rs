//! Rate limits: how often a caller may do what.
//!
//! Invariant: a decision waits for nothing but the lock of a few buckets, and allocates nothing. Refused requests consume
//! nothing. In any window at most its quota and burst are admitted, whatever core the requests arrive on.
//!
//! | To find | Look in |
//! |---|---|
//! | the text of a limit | `policy` |
//! | which requests a limit is for, and the limits of a key | `classes`, `class`, `overrides` |
//! | the settings | `config` |
//! | who is limited | `caller` |
//! | the arithmetic, and the buckets | `gcra`, `table` |
//! | limits of several instances together | `shared` |
//! | headers and the 429 | `verdict`, and `limit` for what is prepared |

mod caller;
mod class;
mod classes;
mod config;
mod gcra;
mod limit;
mod overrides;
mod policy;
mod shared;
mod table;
mod verdict;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::http::Method;
use cenote_cache::RedisConfig;
use tokio::time::Instant;

use self::class::Class;
use self::limit::Limit;
use self::policy::MOST_WINDOWS;
pub(crate) use self::shared::check_sharing;
use self::shared::{Mode, Report, Sharing};
use self::table::{Decision, Outcome, ReportEnd, Table, Windows};
use self::verdict::HeaderStyle;
pub use self::{
    caller::Caller,
    classes::{Base, ClassId, InvalidClass, InvalidClasses, RouteClasses},
    config::LimitsConfig,
    overrides::{InvalidOverride, InvalidOverrides, Overrides},
    policy::{InvalidPolicy, Policy, Unit, Window},
    shared::SharedStats,
    verdict::{HeadersOn, LimitHeaders, Verdict},
};

/// Decides whether requests may be made. One for all cores.
#[derive(Debug)]
pub struct Limits {
    /// Shared with the limits of earlier settings, and so are the callers that it holds.
    table: Arc<Table>,
    /// SipHash with random keys: who chooses an address or a name must not be able to choose a place in the table.
    hasher: RandomState,
    classes: Box<[Arc<Class>]>,
    routes: RouteClasses,
    ipv6_mask: u128,
    style: HeaderStyle,
    /// `None` if the limits are not shared.
    sharing: Option<Sharing>,
    /// Where the monotonic time of the buckets begins.
    start: Instant,
    untracked: Arc<AtomicU64>,
}

/// What the limits have done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStats {
    /// Requests of each class that its limit admitted. Without those that no limit was for.
    pub admitted: Vec<(String, u64)>,
    /// Refused requests of each class.
    pub refused: Vec<(String, u64)>,
    /// Requests of callers that found no room in the table.
    pub untracked: u64,
    /// Buckets in use, of callers that are not idle.
    pub buckets_in_use: usize,
    /// `None` if the limits are not shared.
    pub shared: Option<SharedStats>,
}

impl Limits {
    /// Makes empty buckets. All memory is allocated here: 25 bytes for each bucket.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let class = |(name, policy): (&str, &Policy)| Arc::new(Class::new(name, policy));
        Self {
            table: Arc::new(Table::new(config.buckets)),
            hasher: RandomState::new(),
            classes: config.policies().map(class).collect(),
            routes: config.classes.clone(),
            ipv6_mask: caller::ipv6_mask(config.ipv6_prefix),
            style: config.style(),
            sharing: config.shared_by.map(Sharing::new),
            start: Instant::now(),
            untracked: Arc::default(),
        }
    }

    /// Returns the limits of other settings, to take the place of these. Callers keep their buckets where the limit is the
    /// same, and begin anew where it is not. The number of buckets stays. `None` if limits are shared: the other instances
    /// would not know.
    #[must_use]
    pub fn reconfigured(&self, config: &LimitsConfig) -> Option<Self> {
        let class = |(name, policy): (&str, &Policy)| match self.classes.iter().find(|class| *class.name == *name) {
            Some(class) if class.limit.policy == *policy => Arc::clone(class),
            Some(class) => Arc::new(class.with(policy)),
            None => Arc::new(Class::new(name, policy)),
        };
        self.sharing.is_none().then(|| Self {
            table: Arc::clone(&self.table),
            hasher: self.hasher.clone(),
            classes: config.policies().map(class).collect(),
            routes: config.classes.clone(),
            ipv6_mask: caller::ipv6_mask(config.ipv6_prefix),
            style: config.style(),
            sharing: None,
            start: self.start,
            untracked: Arc::clone(&self.untracked),
        })
    }

    /// Returns the class of a request: the first of the further classes whose route it matches, or else `base`.
    #[must_use]
    pub fn class_of(&self, method: &Method, path: &str, base: Base) -> ClassId {
        self.routes.class_of(method, path, base)
    }

    /// Whether the settings give a class no limit. A key may have one of its own nevertheless.
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
        let (id, class) = (class, &self.classes[class.0]);
        let limit = class.limit(overrides);
        if limit.rates.is_empty() {
            return self.unlimited(limit);
        }
        let caller = caller.masked(self.ipv6_mask);
        let (identity, now) = (self.identity(limit, caller), self.nanoseconds(now));
        let mode = self.mode();
        let decision = mode.with_terms(limit, |terms| self.table.charge(identity, terms, now));
        if let Mode::Shared(sharing) = mode {
            self.report(sharing, limit, (id, caller, identity), &decision, now);
        }
        let (refused_by, ahead) = match decision.outcome {
            Outcome::Admitted => (Windows::default(), decision.ahead),
            Outcome::Refused(windows) => (windows, decision.ahead),
            Outcome::NoRoom => {
                self.untracked.fetch_add(1, Relaxed);
                class.charge_untracked(&limit.rates, now)
            }
        };
        class.count(refused_by.is_empty());
        self.verdict(limit, mode.parts(), ahead, refused_by)
    }

    /// Tells whether [`charge`](Self::charge) would admit a request, and charges nothing. For a class of which only some
    /// outcomes count, such as failed logins: a request is refused before its credentials are looked at if its address
    /// has failed too often, and charged when it fails.
    #[must_use]
    pub fn peek(&self, class: ClassId, caller: Caller, now: Instant) -> Verdict<'_> {
        let (id, class) = (class, &self.classes[class.0]);
        let limit = &class.limit;
        if limit.rates.is_empty() {
            return self.unlimited(limit);
        }
        let caller = caller.masked(self.ipv6_mask);
        let (identity, now) = (self.identity(limit, caller), self.nanoseconds(now));
        let mode = self.mode();
        let decision = mode.with_terms(limit, |terms| self.table.peek(identity, terms, now));
        if let Mode::Shared(sharing) = mode {
            self.report(sharing, limit, (id, caller, identity), &decision, now);
        }
        let refused_by = match decision.outcome {
            Outcome::Refused(windows) => windows,
            Outcome::Admitted | Outcome::NoRoom => Windows::default(),
        };
        if !refused_by.is_empty() {
            class.count(false);
        }
        self.verdict(limit, mode.parts(), decision.ahead, refused_by)
    }

    /// Shares the limits with the other instances through this Redis, for ever. Ends at once if
    /// [`shared_by`](LimitsConfig::shared_by) is `None`. Until it is polled, each instance admits its part.
    ///
    /// # Cancel safety
    ///
    /// Each instance then admits its part.
    pub async fn share(self: Arc<Self>, redis: RedisConfig) {
        shared::exchange(&self, &redis).await;
    }

    /// Returns what the limits have done so far. Takes a few hundred microseconds.
    #[must_use]
    pub fn stats(&self, now: Instant) -> LimitStats {
        let admitted = |class: &Arc<Class>| (class.name.to_string(), class.admitted());
        let refused = |class: &Arc<Class>| (class.name.to_string(), class.refused());
        LimitStats {
            admitted: self.classes.iter().map(admitted).collect(),
            refused: self.classes.iter().map(refused).collect(),
            untracked: self.untracked.load(Relaxed),
            buckets_in_use: self.table.in_use(self.nanoseconds(now)),
            shared: self.shared(),
        }
    }

    /// Returns how the sharing of the limits goes; `None` if they are not shared.
    #[must_use]
    pub fn shared(&self) -> Option<SharedStats> {
        self.sharing.as_ref().map(Sharing::stats)
    }

    fn mode(&self) -> Mode<'_> {
        self.sharing.as_ref().map_or(Mode::Alone, Sharing::mode)
    }

    /// Sends the reports that are due. `of`: the class, the caller, and its identity in the table.
    fn report(&self, sharing: &Sharing, limit: &Limit, of: (ClassId, Caller, u64), decision: &Decision, now: u64) {
        let (class, caller, identity) = of;
        for (at, count) in decision.due.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let report = Report {
                class,
                caller,
                identity,
                at,
                window: limit.policy.windows()[at],
                count,
                tat: now.saturating_add(decision.ahead[at]),
            };
            if !sharing.send(report) {
                self.lose(sharing, &report);
            }
        }
    }

    /// Ends a report that was sent at this time.
    fn settle(&self, report: &Report, end: ReportEnd, sent: u64) {
        let interval = report.window.interval();
        self.table.settle(report.identity, report.at, interval, end, sent);
    }

    fn lose(&self, sharing: &Sharing, report: &Report) {
        sharing.count_lost();
        self.settle(report, ReportEnd::Lost, 0);
    }

    fn name_of(&self, class: ClassId) -> &str {
        &self.classes[class.0].name
    }

    fn identity(&self, limit: &Limit, caller: Caller) -> u64 {
        self.hasher.hash_one((limit.seed, caller))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn unlimited<'a>(&self, limit: &'a Limit) -> Verdict<'a> {
        self.verdict(limit, 1, [0; MOST_WINDOWS], Windows::default())
    }

    fn verdict<'a>(
        &self,
        limit: &'a Limit,
        parts: u32,
        ahead: [u64; MOST_WINDOWS],
        refused_by: Windows,
    ) -> Verdict<'a> {
        Verdict {
            limit,
            parts,
            ahead,
            refused_by,
            style: self.style,
        }
    }
}

#[cfg(test)]
mod tests;
