//! The services that are measured. Invariant: all have ten connections to PostgreSQL; every other setting is listed
//! here.

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
    /// What its clients show.
    pub(super) credentials: Credentials,
    /// The status of a good answer: other than 200 for a service that is to refuse.
    pub(super) answer: u16,
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

/// What clients of a service show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    Nothing,
    /// An API key with the scopes read and write.
    Key,
    /// A text that looks like an API key, but its checksum is wrong.
    WrongKey,
    /// A JSON Web Token with HS256.
    Token,
}

/// The secret of the tokens. It protects nothing.
pub(super) const TOKEN_SECRET: &str = "the secret of a benchmark, 32 bytes at least";
/// The service that others without a cache are compared with.
pub(super) const BASELINE: &str = "deadpool";
/// The service that others with a cache are compared with.
pub(super) const CACHED_BASELINE: &str = "deadpool-redis";
/// The upper limit on this machine: HTTP and the load generator, without a database.
pub(super) const LIMIT: &str = "hello";

/// A service with a cache in its process; those with credentials are compared with it.
const NEAR: &str = "cenote-near";
/// Two limits that no load generator reaches.
const LIMITS: &str = "1000000/s, 1000000000/h";

/// All services, in the order of the tables.
pub(super) const ALL: [Service; 12] = [
    Service {
        name: "cenote",
        about: "cenote serve, no cache",
        program: Program::Cenote(&[("CACHE_MODE", "off")]),
        cache: Cache::Off,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: BASELINE,
        about: "axum, deadpool-postgres",
        program: Program::Rival("deadpool"),
        cache: Cache::Off,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: "sqlx",
        about: "axum, sqlx",
        program: Program::Rival("sqlx"),
        cache: Cache::Off,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: LIMIT,
        about: "hyper, a fixed answer, no database: the limit",
        program: Program::Rival("hello"),
        cache: Cache::Off,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: NEAR,
        about: "cenote serve, cache in its process",
        program: Program::Cenote(&[("CACHE_MODE", "local")]),
        cache: Cache::Near,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: "cenote-strong",
        about: "cenote serve, cache in Redis, never stale",
        program: Program::Cenote(&[("CACHE_MODE", "strong")]),
        cache: Cache::Redis,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: "cenote-bounded",
        about: "cenote serve, cache in Redis and in its process, at most 1 s stale",
        program: Program::Cenote(&[("CACHE_MODE", "bounded"), ("CACHE_MAX_STALENESS_MS", "1000")]),
        cache: Cache::Redis,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: CACHED_BASELINE,
        about: "axum, deadpool-postgres, Redis as plain cache-aside",
        program: Program::Rival("deadpool-redis"),
        cache: Cache::Redis,
        credentials: Credentials::Nothing,
        answer: 200,
    },
    Service {
        name: "cenote-key",
        about: "cenote-near with API keys and two rate limits",
        program: Program::Cenote(&[("CACHE_MODE", "local"), ("AUTH", "keys"), ("RATE_LIMIT_READ", LIMITS)]),
        cache: Cache::Near,
        credentials: Credentials::Key,
        answer: 200,
    },
    Service {
        name: "cenote-jwt",
        about: "cenote-near with JSON Web Tokens (HS256, one token)",
        program: Program::Cenote(&[("CACHE_MODE", "local"), ("AUTH", "jwt"), ("JWT_SECRET", TOKEN_SECRET)]),
        cache: Cache::Near,
        credentials: Credentials::Token,
        answer: 200,
    },
    Service {
        name: "cenote-429",
        about: "cenote-key with a limit of one request an hour: refusals",
        program: Program::Cenote(&[("CACHE_MODE", "local"), ("AUTH", "keys"), ("RATE_LIMIT_READ", "1/h")]),
        cache: Cache::Near,
        credentials: Credentials::Key,
        answer: 429,
    },
    Service {
        name: "cenote-401",
        about: "cenote-key, asked with a key whose checksum is wrong: refusals",
        program: Program::Cenote(&[
            ("CACHE_MODE", "local"),
            ("AUTH", "keys"),
            ("RATE_LIMIT_AUTH_FAILURES", "off"),
        ]),
        cache: Cache::Near,
        credentials: Credentials::WrongKey,
        answer: 401,
    },
];

impl Service {
    /// Whether this service is measured under this workload with this number of clients.
    #[must_use]
    pub(super) fn takes_part(&self, workload: Workload, clients: usize) -> bool {
        // With one client only reads and writes are of interest.
        let asked = clients > 1
            || !matches!(
                workload,
                Workload::Users | Workload::Mixed | Workload::CachedMixed | Workload::Guarded
            );
        let able = match workload {
            Workload::Guarded => self.name == NEAR || self.credentials != Credentials::Nothing,
            _ if self.name == LIMIT => workload == Workload::Read,
            _ if self.credentials != Credentials::Nothing => false,
            _ => workload.is_cached() == (self.cache != Cache::Off),
        };
        asked && able
    }
}

/// The service that others are compared with under this workload.
#[must_use]
pub(super) fn baseline(workload: Workload) -> &'static str {
    match workload {
        Workload::Guarded => NEAR,
        _ if workload.is_cached() => CACHED_BASELINE,
        _ => BASELINE,
    }
}
