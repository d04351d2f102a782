//! The settings as the rest of the program uses them: the configurations of the libraries, and what has no library.
//!
//! Invariant: a [`Settings`] value that [`load`](super::load) returns passed every check; its `Debug` shows no secret.

use std::path::PathBuf;
use std::time::Duration;

use cenote_cache::{Config as CacheConfig, RedisConfig};

use super::live_password::LivePassword;
use crate::access::OpenGroup;
use crate::auth::AuthConfig;
use crate::http::{HttpConfig, ProxyHeader, TlsConfig, TrustedProxies};
use crate::limits::LimitsConfig;
use crate::memory_watch::Thresholds;
use crate::spans::OtlpConfig;
use crate::store::{CacheMode, Migrate, SchemaName};

/// All settings of the service.
///
/// `Default` is the state before the defaults of the table are applied.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The database, its pool and the statements sent to it. Without a host the service starts a private PostgreSQL:
    /// see [`names_database`](Self::names_database).
    pub postgres: cenote_postgres::Config,
    /// The password that `postgres` asks for. `None`: there is none.
    pub(crate) database_password: Option<LivePassword>,
    /// The password that the Redis of `cache` is asked for. `None`: there is none.
    pub(crate) redis_password: Option<LivePassword>,
    /// The cache in front of the database. Its Redis has no certificates yet: see `redis_files`.
    pub cache: CacheConfig,
    /// The word for `cache.mode`.
    pub cache_mode: CacheMode,
    /// The certificates for a Redis with TLS.
    pub redis_files: RedisFiles,
    /// Who may call.
    pub auth: AuthConfig,
    /// The routes that everyone may call nevertheless.
    pub auth_open: Vec<OpenGroup>,
    /// Whether pages in a browser may administer the service.
    pub dashboard_actions: bool,
    /// Whether triggers notify the cache of writes that bypass the service.
    pub change_feed: bool,
    /// The HTTP connections.
    pub http: HttpConfig,
    /// TLS to clients. `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The address or name to listen on, IPv6 without brackets.
    pub host: String,
    /// The port to listen on; 0: any free port.
    pub port: u16,
    /// The number of threads that serve. `None`: one for each core that the process may use.
    pub cores: Option<usize>,
    /// The bytes that large answers may take.
    pub answer_memory: usize,
    /// How often callers may do what.
    pub limits: LimitsConfig,
    /// The Redis through which instances share the limits. Set if and only if `limits.shared_by` is. Without certificates
    /// yet, like that of `cache`.
    pub limits_redis: Option<RedisConfig>,
    /// The proxies whose header names the client.
    pub trusted_proxies: TrustedProxies,
    /// Whether connections from these proxies begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// That header.
    pub proxy_header: ProxyHeader,
    /// The time between readiness turning 503 and the listener closing.
    pub shutdown_delay: Duration,
    /// The directory of the private PostgreSQL. `None`: the default one of `cenote_local`.
    pub data_dir: Option<PathBuf>,
    /// The schema of the service's tables.
    pub schema: SchemaName,
    /// What `serve` does about a schema that is not up to date.
    pub migrate: Migrate,
    /// The number of instances that share the database.
    pub instances: u32,
    /// The bytes of requests that may wait to share a statement.
    pub queue_bytes: usize,
    /// The longest expected wait to share a statement.
    pub queue_wait: Duration,
    /// Where traces are exported to. `None`: nowhere.
    pub(crate) otlp: Option<OtlpConfig>,
    /// The directives of the log's filter. They are known to parse.
    pub log_filter: String,
    /// Whether the log is for people; otherwise it is one JSON object a line. `None`: it is for people on a terminal.
    pub log_is_pretty: Option<bool>,
    /// The file of the audit log. `None`: the log, with target `audit`.
    pub audit_log: Option<PathBuf>,
    /// From which use of memory on it counts as short.
    pub memory: Thresholds,
    /// The directory where relative paths start.
    pub(crate) directory: PathBuf,
}

impl Settings {
    /// Whether a setting names the database. Otherwise the service starts a private one.
    pub fn names_database(&self) -> bool {
        let server = &self.postgres.server;
        !server.get_hosts().is_empty() || !server.get_hostaddrs().is_empty()
    }
}

/// The files with certificates for a Redis with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisFiles {
    /// The authorities that may sign a server's certificate, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// The certificate of this client. Set if and only if `key` is.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate.
    pub key: Option<PathBuf>,
}
