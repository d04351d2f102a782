//! The modes of the cache and what each promises. Invariant: the checks demand only what `docs/coherence.md` promises.

use std::time::Duration;

use crate::history::Promise;

use crate::fault::Fault;

/// The bound in the mode `bounded`.
const BOUND: Duration = Duration::from_millis(200);

/// A mode of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One instance that keeps values in its process.
    Local,
    /// Reads see every acknowledged write and never go back.
    Strong,
    /// Reads see every write that was acknowledged longer ago than the bound.
    Bounded,
    /// The plain cache-aside. It promises nothing; it shows that the checker finds violations.
    Ttl,
    /// No cache.
    Off,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Local, Self::Strong, Self::Bounded, Self::Ttl, Self::Off];

    /// The value of `CACHE_MODE`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Strong => "strong",
            Self::Bounded => "bounded",
            Self::Ttl => "ttl",
            Self::Off => "off",
        }
    }

    /// The number of instances.
    pub(crate) const fn instances(self) -> usize {
        match self {
            Self::Local => 1,
            _ => 3,
        }
    }

    pub(crate) const fn has_redis(self) -> bool {
        matches!(self, Self::Strong | Self::Bounded | Self::Ttl)
    }

    pub(crate) const fn caches(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether violations are expected.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Ttl)
    }

    /// The settings beside `CACHE_MODE`.
    pub(crate) fn settings(self) -> Option<(&'static str, String)> {
        matches!(self, Self::Bounded).then(|| ("CACHE_MAX_STALENESS_MS", BOUND.as_millis().to_string()))
    }

    /// Whether this fault can happen in this mode.
    #[must_use]
    pub const fn can_have(self, fault: Fault) -> bool {
        self.has_redis() || !fault.needs_redis()
    }

    /// What is promised under a fault. The plain cache-aside is checked against the promises of the others.
    pub(crate) fn promise(self, fault: Fault) -> Promise {
        let (staleness, monotonic) = match self {
            Self::Local => (Duration::ZERO, false),
            Self::Bounded => (BOUND, false),
            Self::Strong => (Duration::ZERO, !fault.loses_fences_and_seals()),
            Self::Ttl | Self::Off => (Duration::ZERO, true),
        };
        Promise { staleness, monotonic }
    }
}
