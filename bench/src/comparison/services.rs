//! Who is measured. Invariant: all have ten connections to PostgreSQL; what else a service is told stands here.

use super::workload::Workload;

/// A service under test.
#[derive(Debug)]
pub(super) struct Service {
    /// Its name on the command line and in tables.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) about: &'static str,
    /// How it is started.
    pub(super) program: Program,
    /// Which cache it has.
    pub(super) cache: Cache,
}

/// How a service is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// `cenote serve` with these variables in its environment.
    Cenote(&'static [(&'static str, &'static str)]),
    /// One of `cenote-rivals`.
    Rival(&'static str),
}

/// Which cache a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// None.
    Off,
    /// In its own process.
    Near,
    /// In Redis.
    Redis,
}

/// The one that others are compared with where there is no cache.
pub(super) const BASELINE: &str = "deadpool";
/// The one that others are compared with where there is a cache.
pub(super) const CACHED_BASELINE: &str = "deadpool-redis";
/// Not a rival: the most that HTTP and the load generator leave room for.
pub(super) const LIMIT: &str = "hello";

/// All of them, in the order of the tables.
pub(super) const ALL: [Service; 8] = [
    Service {
        name: "cenote",
        about: "cenote serve, no cache",
        program: Program::Cenote(&[("CACHE_MODE", "off")]),
        cache: Cache::Off,
    },
    Service {
        name: BASELINE,
        about: "axum, deadpool-postgres",
        program: Program::Rival("deadpool"),
        cache: Cache::Off,
    },
    Service {
        name: "sqlx",
        about: "axum, sqlx",
        program: Program::Rival("sqlx"),
        cache: Cache::Off,
    },
    Service {
        name: LIMIT,
        about: "hyper, a fixed answer, no database: the limit",
        program: Program::Rival("hello"),
        cache: Cache::Off,
    },
    Service {
        name: "cenote-near",
        about: "cenote serve, cache in its process",
        program: Program::Cenote(&[("CACHE_MODE", "local")]),
        cache: Cache::Near,
    },
    Service {
        name: "cenote-strong",
        about: "cenote serve, cache in Redis, never stale",
        program: Program::Cenote(&[("CACHE_MODE", "strong")]),
        cache: Cache::Redis,
    },
    Service {
        name: "cenote-bounded",
        about: "cenote serve, cache in Redis and in its process, at most 1 s stale",
        program: Program::Cenote(&[("CACHE_MODE", "bounded"), ("CACHE_MAX_STALENESS_MS", "1000")]),
        cache: Cache::Redis,
    },
    Service {
        name: CACHED_BASELINE,
        about: "axum, deadpool-postgres, Redis as plain cache-aside",
        program: Program::Rival("deadpool-redis"),
        cache: Cache::Redis,
    },
];

impl Service {
    /// Whether it is measured under this workload with so many clients.
    #[must_use]
    pub(super) fn takes_part(&self, workload: Workload, clients: usize) -> bool {
        // What a lone client waits for is a read or a write.
        let asked = clients > 1 || !matches!(workload, Workload::Users | Workload::Mixed | Workload::CachedMixed);
        let able = if self.name == LIMIT {
            workload == Workload::Read
        } else {
            workload.is_cached() == (self.cache != Cache::Off)
        };
        asked && able
    }
}

/// The one that others are compared with under this workload.
#[must_use]
pub(super) fn baseline(workload: Workload) -> &'static str {
    if workload.is_cached() {
        CACHED_BASELINE
    } else {
        BASELINE
    }
}
