//! The settings as the rest of the program sees them.
//!
//! Invariant: a [`Settings`] value has passed every check, also those across settings; its `Debug` holds no secret.

use std::path::PathBuf;
use std::time::Duration;

use cenote_cache::RedisUrl;

use super::schema_name::SchemaName;

/// All settings of the service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database is. `None`: start a private PostgreSQL.
    pub database: Option<cenote_postgres::Config>,
    /// Where the private PostgreSQL keeps its data. `None`: where it likes.
    pub data_dir: Option<PathBuf>,
    /// The schema that the service's tables are in.
    pub schema: SchemaName,
    /// What is done at the start about a schema that is not up to date.
    pub migrate: Migrate,
    /// How many instances share the database.
    pub instances: usize,
    /// The connection pool.
    pub pool: PoolSettings,
    /// What is sent over the connections.
    pub statements: StatementSettings,
    /// When to try again.
    pub retry: RetrySettings,
    /// The cache in front of the database.
    pub cache: CacheSettings,
    /// The listener and its connections.
    pub http: HttpSettings,
    /// How to stop.
    pub shutdown: ShutdownSettings,
    /// The log.
    pub log: LogSettings,
}

/// What is done at the start about a schema that is not up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// What is missing is added.
    #[default]
    Auto,
    /// The start ends with what is missing.
    Check,
    /// Nothing is looked at.
    Off,
}

impl Migrate {
    pub(crate) const WORDS: &[(&'static str, Self)] =
        &[("auto", Self::Auto), ("check", Self::Check), ("off", Self::Off)];
}

/// The connection pool. `min <= max` and `max >= 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections kept open when idle.
    pub min: usize,
    /// Most connections, overflow aside.
    pub max: usize,
    /// Connections beyond `max` under load, closed when given back.
    pub overflow: usize,
    /// Longest wait for a connection; zero: do not wait.
    pub timeout: Duration,
    /// Most waiters.
    pub max_waiters: usize,
    /// Most bytes of requests that wait to share a statement.
    pub queue_bytes: usize,
    /// Longest expected wait to share a statement.
    pub queue_wait: Duration,
    /// Lifetime of a connection, before jitter. `None`: no limit.
    pub recycle: Option<Duration>,
    /// How long a connection beyond `min` may be idle. `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// Longest time for opening one connection, TLS and login included.
    pub connect_timeout: Duration,
}

/// What is sent over the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementSettings {
    /// Longest time for one statement.
    pub timeout: Duration,
    /// Prepared statements kept per connection.
    pub cache: usize,
    /// Whether to log every statement.
    pub echo: bool,
    /// Log statements that take longer. `None`: do not.
    pub slow: Option<Duration>,
}

/// When to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Delay before the first retry.
    pub delay: Duration,
}

/// The cache in front of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// What a cached read guarantees.
    pub mode: CacheMode,
    /// Where Redis is; always set in the modes that need it.
    pub redis: Option<Vec<RedisUrl>>,
    /// Certificates for a Redis with TLS.
    pub redis_tls: RedisTls,
    /// Lifetime of a cached value.
    pub ttl: Duration,
    /// Whether to answer with an older value while the database is down.
    pub stale_on_error: bool,
    /// Most memory for values kept in this process.
    pub near_bytes: usize,
    /// How writes that bypass the service are seen.
    pub feed: CacheFeed,
}

/// Files for a Redis with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// The authorities that may sign a server's certificate, instead of those of the system.
    pub authorities: Option<PathBuf>,
    /// The certificate to show and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How writes that bypass the service are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFeed {
    /// They are not, until the lifetime of what is cached ends.
    #[default]
    Off,
    /// Triggers notify of them.
    Notify,
}

impl CacheFeed {
    pub(crate) const WORDS: &[(&'static str, Self)] = &[("off", Self::Off), ("notify", Self::Notify)];
}

/// What a cached read guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// A cache in this process, coherent with its own writes.
    Local,
    /// No read is older than the newest acknowledged write of any instance.
    Strong,
    /// As `Strong`, except that reads may be stale by a bound.
    Bounded {
        /// The bound.
        max_staleness: Duration,
    },
    /// Plain cache-aside: stale until the lifetime ends.
    Ttl,
    /// No cache.
    Off,
}

impl CacheMode {
    /// Whether it means nothing without Redis.
    #[must_use]
    pub const fn needs_redis(self) -> bool {
        matches!(self, Self::Strong | Self::Bounded { .. } | Self::Ttl)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Strong => "strong",
            Self::Bounded { .. } => "bounded",
            Self::Ttl => "ttl",
            Self::Off => "off",
        }
    }
}

/// The value of `CACHE_MODE`, before the bound joins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheModeName {
    Local,
    Strong,
    Bounded,
    Ttl,
    Off,
}

impl CacheModeName {
    pub(crate) const WORDS: &[(&'static str, Self)] = &[
        ("local", Self::Local),
        ("strong", Self::Strong),
        ("bounded", Self::Bounded),
        ("ttl", Self::Ttl),
        ("off", Self::Off),
    ];

    pub(crate) fn needs_redis(self) -> bool {
        matches!(self, Self::Strong | Self::Bounded | Self::Ttl)
    }
}

/// The listener and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Address or name to listen on, IPv6 without brackets.
    pub host: String,
    /// Port to listen on; 0: any free port.
    pub port: u16,
    /// Threads that serve, one to a core. `None`: as many as the process may use.
    pub cores: Option<usize>,
    /// Most client connections at a time.
    pub max_connections: usize,
    /// Longest wait for a request's first byte and head.
    pub header_timeout: Duration,
    /// Longest wait for a request's body.
    pub body_timeout: Duration,
    /// When an idle keep-alive connection is closed.
    pub idle_timeout: Duration,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Most bytes of large answers in memory.
    pub answer_memory: usize,
}

/// How to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// Time between not being ready and closing the listener.
    pub delay: Duration,
    /// Longest wait for running requests.
    pub timeout: Duration,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives of a tracing filter, known to parse.
    pub filter: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(crate) const WORDS: &[(&'static str, Self)] =
        &[("auto", Self::Auto), ("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Pool sizes under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolProfile {
    Low,
    Medium,
    High,
    VeryHigh,
}

impl PoolProfile {
    pub(crate) const WORDS: &[(&'static str, Self)] = &[
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("very-high", Self::VeryHigh),
    ];

    pub(crate) fn min_and_max(self) -> (usize, usize) {
        match self {
            Self::Low => (2, 5),
            Self::Medium => (5, 20),
            Self::High => (10, 50),
            Self::VeryHigh => (20, 100),
        }
    }
}
